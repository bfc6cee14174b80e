package gateway

import (
	"context"
	"runtime/debug"
	"time"
)

// startPeak is how long after the start the memory that only the start needed is given back.
const startPeak = 15 * time.Second

// giveBack returns to the system, once, what the start of many Things took beyond what their work takes: the
// runtime by itself would keep it as room for garbage.
func giveBack(ctx context.Context) {
	t := time.NewTimer(startPeak)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
		debug.FreeOSMemory()
	}
}
