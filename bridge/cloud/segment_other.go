//go:build !linux

package cloud

import "syscall"

// smallSegments can't be had here.
func smallSegments(syscall.RawConn) {}
