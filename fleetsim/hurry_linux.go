package fleetsim

import "golang.org/x/sys/unix"

// memoryDir is where files are kept in memory, and how many bytes are free there.
func memoryDir() (string, uint64) {
	const dir = "/dev/shm"
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil || s.Type != unix.TMPFS_MAGIC {
		return "", 0
	}
	return dir, s.Bavail * uint64(s.Bsize)
}
