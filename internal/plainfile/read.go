// Package plainfile reads the files that an operator names. Each is a plain file of bounded size, or it is
// refused with the reason: a pipe or a device in its place can neither keep the bridge waiting nor fill its
// memory.
package plainfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// patience bounds the reading of files that are plain by their looks only, such as some in /proc, and of what
// a shell writes into /dev/fd.
const patience = 10 * time.Second

// File is what a file holds, and how it looked when that was read.
type File struct {
	Data []byte
	Info fs.FileInfo
}

// Refused says why a file is not read although it is there.
type Refused struct{ Path, Why string }

func (r *Refused) Error() string { return r.Path + " " + r.Why }

// Read reads a plain file of at most limit bytes. Links are followed. what names its purpose in the error. The
// error is a *Refused, or the system's.
func Read(path, what string, limit int64) (File, error) {
	f, info, err := open(path)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	tooLarge := &Refused{path, fmt.Sprintf("has more than %s, which no %s needs", size(limit), what)}
	if info.Size() > limit {
		return File{}, tooLarge
	}
	_ = f.SetReadDeadline(time.Now().Add(patience)) // plain files have none, and need none
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case os.IsTimeout(err):
		return File{}, &Refused{path, fmt.Sprintf("did not end in %s, name a plain file", patience)}
	case err != nil:
		return File{}, err
	case int64(len(data)) > limit:
		return File{}, tooLarge
	}
	return File{data, info}, nil
}

// open looks before it opens, because opening a device may do something, and again after that.
func open(path string) (*os.File, fs.FileInfo, error) {
	info, err := os.Stat(path)
	if wrong := (*fs.PathError)(nil); errors.As(err, &wrong) {
		wrong.Op = "open"
	}
	if err == nil {
		err = plain(path, info)
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = plain(path, info)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// plain refuses what is no file. A pipe that this process has open already, as the shell's <(command) gives,
// is as good as one.
func plain(path string, info fs.FileInfo) error {
	kind := ""
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		kind = "directory"
	case mode&fs.ModeNamedPipe != 0 && inherited(path):
		return nil
	case mode&fs.ModeNamedPipe != 0:
		kind = "pipe"
	case mode&fs.ModeSocket != 0:
		kind = "socket"
	default:
		kind = "device"
	}
	return &Refused{path, "is a " + kind + ", name a file"}
}

func inherited(path string) bool {
	return path == "/dev/stdin" || strings.HasPrefix(path, "/dev/fd/") || strings.HasPrefix(path, "/proc/self/fd/")
}

// List reads a directory of at most limit entries, in the order of their names. Links are followed.
func List(path string, limit int) ([]fs.DirEntry, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, &Refused{path, "is no directory"}
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(limit + 1)
	switch {
	case err != nil && err != io.EOF:
		return nil, err
	case len(entries) > limit:
		return nil, &Refused{path, fmt.Sprintf("holds more than %d files, name a directory of its own", limit)}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// Others returns what other users of this machine may do with a file or directory that looked like info: bits
// of 0o7. It is 0 below /run/secrets, which a container has for itself.
func Others(path string, info fs.FileInfo) fs.FileMode {
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	if !hasOthers || strings.HasPrefix(path, "/run/secrets/") || strings.HasPrefix(path, "/var/run/secrets/") {
		return 0
	}
	return info.Mode().Perm() & 0o7
}

// size spells a limit.
func size(bytes int64) string {
	switch {
	case bytes%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", bytes>>20)
	case bytes%(1<<10) == 0:
		return fmt.Sprintf("%dKiB", bytes>>10)
	}
	return fmt.Sprintf("%d bytes", bytes)
}
