//go:build unix

package storedir

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nkeys"
)

// TestStoreDirOfOthers: a directory that others may write into, or a thing in the place of a file, is refused with the
// mend, and at once.
func TestStoreDirOfOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  string // in the error; empty: it opens
	}{
		"private":               {func(dir string) error { return os.Chmod(dir, 0o700) }, ""},
		"a volume's, 0755":      {func(dir string) error { return os.Chmod(dir, 0o755) }, ""},
		"readable by a group":   {func(dir string) error { return os.Chmod(dir, 0o750) }, ""},
		"everybody's":           {func(dir string) error { return os.Chmod(dir, 0o777) }, "chmod go-w"},
		"everybody's, sticky":   {func(dir string) error { return os.Chmod(dir, 0o777|os.ModeSticky) }, "chmod go-w"},
		"a group's":             {func(dir string) error { return os.Chmod(dir, 0o770) }, ""},
		"a file":                {func(dir string) error { _ = os.Remove(dir); return os.WriteFile(dir, nil, 0o600) }, "no directory"},
		"a pipe as the lock":    {func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "lock"), 0o600) }, "lock is no ordinary file"},
		"a link as the lock":    {func(dir string) error { return os.Symlink("/dev/null", filepath.Join(dir, "lock")) }, "lock is no ordinary file"},
		"a link as the store":   {func(dir string) error { return os.Symlink("/tmp", filepath.Join(dir, "jetstream")) }, "jetstream is no directory"},
		"a link as the journal": {func(dir string) error { return os.Symlink("/tmp", filepath.Join(dir, "FLEETS_JOURNAL")) }, "FLEETS_JOURNAL is no directory"},
		"somebody's journal":    {plantDir("FLEETS_JOURNAL"), plantedSays("FLEETS_JOURNAL in it belongs to user 65534")},
		"somebody's socket":     {plantDir("watch"), plantedSays("watch in it belongs to user 65534")},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			lock, err := Open(dir, slog.New(slog.DiscardHandler))
			if err == nil {
				_ = lock.Close()
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// plantDir makes a directory of somebody else's, as far as root runs the test.
func plantDir(name string) func(string) error {
	return func(dir string) error {
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o700); err != nil || os.Getuid() != 0 {
			return err
		}
		return os.Chown(dir, 65534, -1)
	}
}

func plantedSays(want string) string {
	if os.Getuid() != 0 {
		return ""
	}
	return want
}

// TestPlantedOperatorKey: a key that others may know is not the operator's.
func TestPlantedOperatorKey(t *testing.T) {
	t.Parallel()
	planted, _ := nkeys.CreateUser()
	seed, _ := planted.Seed()
	public, _ := planted.PublicKey()
	for name, c := range map[string]struct {
		plant func(path string) error
		kept  bool
	}{
		"private":             {func(path string) error { return os.WriteFile(path, seed, 0o600) }, true},
		"readable":            {func(path string) error { return os.WriteFile(path, seed, 0o644) }, false},
		"readable by a group": {func(path string) error { return os.WriteFile(path, seed, 0o640) }, false},
		"a link": {func(path string) error {
			other := filepath.Join(t.TempDir(), "key")
			return os.Symlink(other, path)
		}, false},
		"a link to a key": {func(path string) error {
			other := filepath.Join(t.TempDir(), "key")
			_ = os.WriteFile(other, seed, 0o600)
			return os.Symlink(other, path)
		}, false},
		"a pipe":        {func(path string) error { return syscall.Mkfifo(path, 0o600) }, false},
		"a directory":   {func(path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o700) }, false},
		"another key's": {func(path string) error { return os.WriteFile(path, []byte("SAAB"), 0o600) }, false},
		"somebody else's": {func(path string) error {
			if os.Getuid() != 0 {
				return os.WriteFile(path, seed, 0o666)
			}
			_ = os.WriteFile(path, seed, 0o600)
			return os.Chown(path, 65534, 65534)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, operatorFile)
			if err := c.plant(path); err != nil {
				t.Fatal(err)
			}
			key, err := OperatorKey(dir, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := key.PublicKey(); (got == public) != c.kept {
				t.Errorf("kept: %v", got == public)
			}
			if err := privateFile(path); err != nil {
				t.Error(err)
			}
		})
	}
}
