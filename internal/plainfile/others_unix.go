//go:build !windows

package plainfile

import (
	"io/fs"
	"os"
	"syscall"
)

const hasOthers = true

// chown gives a file the owner and the group of one that looks like info.
func chown(path string, info fs.FileInfo) error {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return os.Chown(path, int(s.Uid), int(s.Gid))
}
