//go:build unix

package plainfile_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"fleetbridge/internal/plainfile"
)

// What stands in the place of a file, by its name. Nobody writes into the pipes.
func odd(t *testing.T) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "odd") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(at("small"), []byte("text\n"), 0o600))
	must(os.WriteFile(at("nothing"), nil, 0o600))
	must(os.WriteFile(at("full"), []byte(strings.Repeat("x", 64)), 0o600))
	must(os.WriteFile(at("large"), []byte(strings.Repeat("x", 65)), 0o600))
	must(os.WriteFile(at("sparse"), nil, 0o600))
	must(os.Truncate(at("sparse"), 1<<40))
	must(syscall.Mkfifo(at("pipe"), 0o600))
	must(os.Symlink("pipe", at("to-pipe")))
	must(os.Symlink("/dev/zero", at("to-device")))
	must(os.Symlink("small", at("to-small")))
	must(os.Symlink("loop", at("loop")))
	must(os.Mkdir(at("dir"), 0o700))
	l, err := net.Listen("unix", at("socket"))
	must(err)
	t.Cleanup(func() { l.Close() })
	return dir
}

func TestRead(t *testing.T) {
	dir := odd(t)
	for name, want := range map[string]string{
		"small": "", "to-small": "", "nothing": "", "full": "",
		"large":     " has more than 64 bytes, which no test needs",
		"sparse":    " has more than 64 bytes, which no test needs",
		"pipe":      " is a pipe, name a file",
		"to-pipe":   " is a pipe, name a file",
		"to-device": " is a device, name a file",
		"dir":       " is a directory, name a file",
		"socket":    " is a socket, name a file",
	} {
		path := filepath.Join(dir, name)
		file, err := plainfile.Read(path, "test", 64)
		refused := (*plainfile.Refused)(nil)
		switch {
		case want == "" && (err != nil || file.Info.Size() != int64(len(file.Data))):
			t.Errorf("%s: %d bytes, %v", name, len(file.Data), err)
		case want != "" && (!errors.As(err, &refused) || err.Error() != path+want):
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	for _, name := range []string{"missing", "small/below", "loop"} {
		if _, err := plainfile.Read(filepath.Join(dir, name), "test", 64); err == nil || errors.As(err, new(*plainfile.Refused)) {
			t.Errorf("%s: got %v, want the system's error", name, err)
		}
	}
	if _, err := plainfile.Read("/dev/null", "test", 64); err == nil {
		t.Error("a device is read")
	}
}

// The shell gives <(command) as a pipe that is open already.
func TestReadInheritedPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("text"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	file, err := plainfile.Read("/dev/fd/"+strconv.Itoa(int(r.Fd())), "test", 64)
	if err != nil || string(file.Data) != "text" {
		t.Errorf("got %q, %v", file.Data, err)
	}
}

func TestList(t *testing.T) {
	dir := odd(t)
	entries, err := plainfile.List(dir, 100)
	if err != nil || len(entries) < 10 || entries[0].Name() != "dir" {
		t.Errorf("got %v, %v", entries, err)
	}
	for name, limit := range map[string]int{"": 3, "pipe": 100, "to-device": 100, "small": 100, "socket": 100, "missing": 100} {
		if _, err := plainfile.List(filepath.Join(dir, name), limit); err == nil {
			t.Errorf("%q: no error", name)
		}
	}
}

func TestOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path       string
		mode, want fs.FileMode
	}{
		{path, 0o600, 0}, {path, 0o640, 0}, {path, 0o644, 4}, {path, 0o606, 6}, {path, 0o777, 7},
		{"/run/secrets/x", 0o644, 0}, {"/var/run/secrets/kubernetes.io/x", 0o644, 0}, {"/run/secrets/../x", 0o644, 4},
	} {
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := plainfile.Others(c.path, info); got != c.want {
			t.Errorf("%s, %o: got %o, want %o", c.path, c.mode, got, c.want)
		}
	}
}
