package storedir

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// ErrInUse says that a bridge runs on the store directory.
var ErrInUse = errors.New("another fleetbridge is using it")

// Open makes a store directory if there is none, refuses one that Check refuses, and locks it, so that one server at a time
// writes into it, until the file is closed.
func Open(dir string, log *slog.Logger) (lock *os.File, err error) {
	if err := Check(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store directory: %w", err)
	}
	if err := closeToGroup(dir, log); err != nil {
		return nil, err
	}
	lock, err = hold(dir)
	switch {
	case errors.Is(err, ErrInUse):
		return nil, fmt.Errorf("store directory %s: %w; stop it, or set nats.embedded.store_dir to another directory", dir, err)
	case err != nil:
		return nil, fmt.Errorf("store directory %s: cannot lock it: %w", dir, err)
	}
	return lock, nil
}

// Hold locks a store directory as a running server does, so that none can start meanwhile, and returns
// what gives it back. ErrInUse: a bridge has it. A directory that is not there is nobody's: then release
// is nil. Nothing is created but the lock file.
func Hold(dir string) (release func(), err error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	lock, err := hold(dir)
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Close() }, nil
}

func hold(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
