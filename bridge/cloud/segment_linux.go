package cloud

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// smallSegments keeps both sides of a TCP connection that is about to be opened from sending segments larger than
// segmentLeast.
func smallSegments(c syscall.RawConn) {
	_ = c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, segmentLeast) })
}
