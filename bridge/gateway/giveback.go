package gateway

import (
	"context"
	"runtime/debug"
	"time"
)

// startPeak is how long after the start memory is given back that only the start needed.
const startPeak = 15 * time.Second

// giveBack returns memory to the system, once, that only the start of many Things needed. The runtime would keep it as room
// for garbage.
func giveBack(ctx context.Context) {
	t := time.NewTimer(startPeak)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
		debug.FreeOSMemory()
	}
}
