package storedir

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// Files remembers which files of some directories are on the disk, by their paths.
type Files map[string]fileState

type fileState struct {
	size int64
	time time.Time
}

// Sync forces to the disk what has changed in a directory since the last call. What comes meanwhile may be left for the next
// one.
func (t Files) Sync(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	made := false
	for _, e := range entries {
		info, err := e.Info()
		if os.IsNotExist(err) { // the server removes what it does not need any more
			continue
		}
		if err != nil {
			return err
		}
		path, now := filepath.Join(dir, e.Name()), fileState{info.Size(), info.ModTime()}
		was, known := t[path]
		if known && was == now || !info.Mode().IsRegular() {
			continue
		}
		if err := syncFile(path); err != nil {
			return err
		}
		t[path] = now
		made = made || !known
	}
	if !made || runtime.GOOS == "windows" { // directories can't be synced there
		return nil
	}
	for path := range t { // of files that are gone
		if filepath.Dir(path) == dir {
			if _, err := os.Lstat(path); os.IsNotExist(err) {
				delete(t, path)
			}
		}
	}
	return Sync(dir)
}

// syncFile opens for writing, as Windows syncs nothing else.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Sync forces a file or a directory to the disk that may be gone already.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // some file systems have no such thing
		return err
	}
	return nil
}
