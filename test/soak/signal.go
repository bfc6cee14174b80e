package soak

import (
	"context"
	"sync"
)

// signal is a mutex whose owner can be waited for.
type signal struct {
	sync.Mutex
	changed chan struct{}
}

// notify wakes everybody in wait. The lock must be held.
func (s *signal) notify() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// wait returns when f, called with the lock held, says true, or when ctx ends.
func (s *signal) wait(ctx context.Context, f func() bool) error {
	for {
		s.Lock()
		if f() {
			s.Unlock()
			return nil
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
