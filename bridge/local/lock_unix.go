//go:build unix

package local

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks the file until it is closed. errLocked: another process has it.
func tryLock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return err
}
