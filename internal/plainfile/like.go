package plainfile

import (
	"errors"
	"io/fs"
	"os"
)

// Like gives a file the rights of another one, and, if this process may, its owner and group.
func Like(path, other string) error {
	is, err := os.Stat(other)
	if err != nil {
		return err
	}
	if err := chown(path, is); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return os.Chmod(path, is.Mode().Perm())
}
