package fleetsim

import (
	"context"
	"fmt"
	"sync"
)

// monitor is a mutex whose owner can be waited for.
type monitor struct {
	sync.Mutex
	changed chan struct{}
}

// notify wakes everybody in await. The lock must be held.
func (m *monitor) notify() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// await calls f, with the lock held, now and after every notify, until it says true or ctx ends.
// what names the awaited thing in the error.
func await[T any](ctx context.Context, m *monitor, what string, f func() (T, bool)) (T, error) {
	for {
		m.Lock()
		if v, ok := f(); ok {
			m.Unlock()
			return v, nil
		}
		if m.changed == nil {
			m.changed = make(chan struct{})
		}
		changed := m.changed
		m.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			var none T
			return none, fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		}
	}
}
