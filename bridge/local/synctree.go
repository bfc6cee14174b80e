package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// SyncTree forces every directory of the store to the disk. The server syncs its files, but not the
// directories that it makes for them, and a power cut in the first run could take a whole new store
// along, though its messages were synced. It is called once, before programs come.
func (s *Server) SyncTree() error {
	if runtime.GOOS == "windows" {
		return nil // directories can't be synced there; NTFS journals them
	}
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err): // the server removes what it does not need any more
			return nil
		case err != nil || !d.IsDir():
			return err
		}
		return syncDir(path)
	})
	if err != nil {
		return fmt.Errorf("store directory: %w", err)
	}
	return syncDir(filepath.Dir(s.dir))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // some file systems have no such thing
		return err
	}
	return nil
}
