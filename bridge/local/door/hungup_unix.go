//go:build unix

package door

import (
	"net"
	"syscall"
)

// hungUp reports whether the other side has closed a connection on which nothing was read yet, and has sent nothing.
func hungUp(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = n == 0 && err == nil
	})
	return err == nil && gone
}
