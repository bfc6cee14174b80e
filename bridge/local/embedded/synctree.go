package embedded

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/bridge/local/storedir"
)

// SyncTree forces every directory of the store to the disk, and the definitions of its streams. The server
// syncs its messages, but not the directories that it makes for them, nor the definition of a stream that
// is synced at intervals: a power cut in the first run could take a whole new store along. It is called
// once, before programs come.
func (s *Server) SyncTree() error {
	if runtime.GOOS == "windows" {
		return nil // directories can't be synced there; NTFS journals them
	}
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err): // the server removes what it does not need any more
			return nil
		case err != nil:
			return err
		case d.IsDir() || definitions[d.Name()]:
			return storedir.Sync(path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store directory: %w", err)
	}
	return storedir.Sync(filepath.Dir(s.dir))
}

// definitions are the files in which the server keeps what a stream or a consumer is.
var definitions = map[string]bool{server.JetStreamMetaFile: true, server.JetStreamMetaFileSum: true}
