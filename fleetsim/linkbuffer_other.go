//go:build !unix

package fleetsim

import "syscall"

// receiveBuffer would set how much the kernel holds of what comes.
func receiveBuffer(syscall.RawConn, int) {}
