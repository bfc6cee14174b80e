//go:build unix

package fleetsim

import "syscall"

// receiveBuffer sets how much the kernel holds of what comes, for connections that are made later.
func receiveBuffer(c syscall.RawConn, bytes int) {
	_ = c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, bytes) })
}
