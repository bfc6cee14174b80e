//go:build unix

package bench

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

// SelfUsage is this process's.
func SelfUsage() (Usage, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return Usage{}, err
	}
	return Usage{CPU: time.Duration(u.Utime.Nano() + u.Stime.Nano()), Memory: resident(), Switches: int64(u.Nvcsw)}, nil
}

// resident is read where Linux tells it.
func resident() int64 {
	var size, pages int64
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
