package local

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// stagingRoom is what the memory file system must have free: a batch of each stream, and then some.
const stagingRoom = 32 << 20

// memoryDir makes the directory in memory that belongs to a store, for this user alone.
func memoryDir(store string) (string, error) {
	const base = "/dev/shm"
	var s unix.Statfs_t
	if err := unix.Statfs(base, &s); err != nil || s.Type != unix.TMPFS_MAGIC || s.Bavail*uint64(s.Bsize) < stagingRoom {
		return "", errors.ErrUnsupported
	}
	whole, err := filepath.Abs(store)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(whole))
	dir := filepath.Join(base, fmt.Sprintf("fleetbridge-%d-%s", os.Getuid(), hex.EncodeToString(sum[:8])))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	// Everybody may write into base: what is there already must be ours.
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Getuid() || !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s belongs to somebody else", dir)
	}
	return dir, nil
}
