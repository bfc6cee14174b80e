//go:build unix

package storedir

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks the file until it is closed. ErrInUse: another process has it.
func tryLock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrInUse
	}
	return err
}
