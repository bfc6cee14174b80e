// Package flow has what waits and what shares: a pause that a context ends, a signal to who waits, a quota, work that is
// done some at a time, and when the same may be said again.
package flow

import (
	"context"
	"time"
)

// Sleep waits so long, or returns the context's error.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
