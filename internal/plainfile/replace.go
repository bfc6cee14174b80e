package plainfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace writes a file in one step: whoever reads it finds what was there, or all of data. It reports whether that is
// another content. A file that is there must be a plain one, of at most limit bytes, and keeps its rights; a link is followed.
func Replace(path string, data []byte, limit int64) (changed bool, err error) {
	before, err := Read(path, "file that is replaced", limit)
	there := !errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && there:
		return false, err
	case there && bytes.Equal(before.Data, data):
		return false, nil
	case there:
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return false, err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return false, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return false, err
	}
	if there {
		err = Like(f.Name(), path)
	} else {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err != nil {
		return false, err
	}
	return true, os.Rename(f.Name(), path)
}
