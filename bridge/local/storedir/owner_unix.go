//go:build unix

package storedir

import (
	"io/fs"
	"syscall"
)

// ownersMatter: modes say who may use a file.
const ownersMatter = true

// ownerOf is the user to whom a file belongs.
func ownerOf(info fs.FileInfo) (uid int, ok bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(s.Uid), true
}
