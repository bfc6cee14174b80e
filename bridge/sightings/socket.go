package sightings

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// The socket is in a directory of its own in the store directory, which nobody else may enter, whatever the store
// directory's mode is.
const (
	socketDir  = "watch"
	socketName = "tail.sock"
	// maxSocketPath is what fits everywhere into the address of a Unix socket.
	maxSocketPath = 103
)

// Dir is where the socket is.
func Dir(storeDir string) string { return filepath.Join(storeDir, socketDir) }

// MakeDir makes that directory, or sees to it that nobody else may enter it.
func MakeDir(storeDir string) (string, error) {
	dir := Dir(storeDir)
	return dir, privateDir(dir)
}

// ErrInUse is returned when another bridge serves the socket.
var ErrInUse = errors.New("another bridge serves it")

// Listen opens the socket of a bridge with this store directory, which is made if it isn't there. A socket that a bridge
// left behind when it was killed is replaced. Close removes it.
func Listen(ctx context.Context, storeDir string) (net.Listener, error) {
	if runtime.GOOS == "windows" {
		return nil, errors.New("not on Windows, where the mode of a file keeps nobody out")
	}
	dir, err := MakeDir(storeDir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, socketName)
	if nc, err := Dial(ctx, storeDir); err == nil {
		_ = nc.Close()
		return nil, fmt.Errorf("%s: %w", path, ErrInUse)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s is no socket (%s); remove it", path, info.Mode().Type())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	short, end, err := shortened(path)
	if err != nil {
		return nil, err
	}
	defer end()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the name may be a short one
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &listener{l, path}, nil
}

// listener removes the socket when it is closed.
type listener struct {
	*net.UnixListener
	path string
}

func (l *listener) Close() error {
	_ = os.Remove(l.path) // the next bridge replaces what stays
	return l.UnixListener.Close()
}

// Dial connects to the bridge with this store directory.
func Dial(ctx context.Context, storeDir string) (net.Conn, error) {
	short, end, err := shortened(filepath.Join(Dir(storeDir), socketName))
	if err != nil {
		return nil, err
	}
	defer end()
	return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", short)
}

// shortened is a name for the socket that fits into an address, until end. A long path has one on Linux.
func shortened(path string) (short string, end func(), err error) {
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	short = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	if _, err := os.Stat(filepath.Dir(short)); err != nil {
		_ = dir.Close()
		return "", nil, fmt.Errorf("%s has %d characters, a socket's name here at most %d; set nats.embedded.store_dir to a shorter one", path, len(path), maxSocketPath)
	}
	return short, func() { _ = dir.Close() }, nil
}

// privateDir makes a directory of this user's that nobody else may enter, or sees to it that it is one.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory (%s); remove it", dir, info.Mode().Type())
	}
	return os.Chmod(dir, 0o700) // fails for a directory of somebody else's
}
