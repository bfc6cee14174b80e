package storedir

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// ErrUnsafe is wrapped with what is wrong with the store directory, and the mend.
var ErrUnsafe = errors.New("others may change what is stored")

// Journal is what follows the prefix in the name of the journal's directory.
const Journal = "JOURNAL"

// Check reports whether somebody else could have put something into the store directory: it must be a
// directory of this user's, or of root's, into which nobody else may write. One that is not there yet is fine; one into
// which a group may write is closed to it at the start. What stands in it is looked
// at, too, as far as names go: a link, or a pipe, in the place of a file is refused.
func Check(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("store directory: %w", err)
	case !info.IsDir():
		return fmt.Errorf("store directory %s: is no directory; set nats.embedded.store_dir to another", dir)
	}
	if owner, ok := ownerOf(info); ok && owner != os.Getuid() && owner != 0 {
		return fmt.Errorf("store directory %s: %w: it belongs to user %d, and the bridge runs as %d; chown %d %s, after a look at what is in it",
			dir, ErrUnsafe, owner, os.Getuid(), os.Getuid(), dir)
	}
	if mode := info.Mode().Perm(); mode&0o002 != 0 && ownersMatter {
		return fmt.Errorf("store directory %s: %w: its mode is %#o; chmod go-w %s, after a look at what is in it", dir, ErrUnsafe, mode, dir)
	}
	for _, name := range []string{"lock", "probe"} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("store directory %s: %s is no ordinary file (%s); remove it", dir, name, info.Mode().Type())
		}
	}
	return checkParts(dir)
}

// checkParts looks at the directories in a store directory: what is in one of somebody else's, that one may change.
func checkParts(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("store directory: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		name := e.Name()
		switch part := name == "jetstream" || name == "watch" || strings.HasSuffix(name, "_"+Journal); {
		case err != nil: // gone meanwhile
		case part && !info.IsDir():
			return fmt.Errorf("store directory %s: %s is no directory (%s); remove it, or set nats.embedded.store_dir to where it points", dir, name, info.Mode().Type())
		case !info.IsDir():
		default:
			if owner, ok := ownerOf(info); ok && owner != os.Getuid() && owner != 0 {
				return fmt.Errorf("store directory %s: %w: %s in it belongs to user %d; chown -R %d %s, after a look at what is in it", dir, ErrUnsafe, name, owner, os.Getuid(), dir)
			}
		}
	}
	return nil
}

// closeToGroup takes the right to write from the directory's group, which it has where the umask leaves it.
func closeToGroup(dir string, log *slog.Logger) error {
	info, err := os.Stat(dir)
	if err != nil || !ownersMatter || info.Mode().Perm()&0o020 == 0 {
		return err
	}
	if err := os.Chmod(dir, info.Mode().Perm()&^0o020); err != nil {
		return fmt.Errorf("store directory %s: %w: its group may write (mode %#o); chmod go-w %s", dir, ErrUnsafe, info.Mode().Perm(), dir)
	}
	log.Info("the group of the store directory could write into it, and can no more", "directory", dir)
	return nil
}

// privateFile reports whether a file is an ordinary one of this user's, which nobody else may read or write.
func privateFile(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	owner, known := ownerOf(info)
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no ordinary file (%s)", path, info.Mode().Type())
	case known && owner != os.Getuid():
		return fmt.Errorf("%s belongs to user %d", path, owner)
	case ownersMatter && info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s may be used by others (mode %#o)", path, info.Mode().Perm())
	}
	return nil
}
