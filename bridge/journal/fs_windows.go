package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// SyncDir does nothing: directories can't be synced here, and NTFS journals them.
func (osFS) SyncDir(string) error { return nil }

func tryLock(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrLocked
	}
	return err
}

const noSpace = windows.ERROR_DISK_FULL
