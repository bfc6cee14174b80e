package bridge

import (
	"context"
	"sync"
)

// saver writes a value that changes faster than it can be made durable: one write at a time, always of
// the newest value, and everybody who waited for a change is told by the write that covers it. It has
// no goroutine while nothing changes.
type saver struct {
	// write makes the current value durable. An error means: once more after a pause.
	write func(ctx context.Context) error

	mu      sync.Mutex
	running bool
	dirty   bool
	waiting []func()
}

// save schedules a write; then, if not nil, is called when a write that began after this call has
// succeeded. When ctx ends first it is never called.
func (s *saver) save(ctx context.Context, then func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty = true
	if then != nil {
		s.waiting = append(s.waiting, then)
	}
	if !s.running {
		s.running = true
		go s.run(ctx)
	}
}

func (s *saver) run(ctx context.Context) {
	for {
		s.mu.Lock()
		if !s.dirty {
			s.running = false
			s.mu.Unlock()
			return
		}
		s.dirty = false
		told := s.waiting
		s.waiting = nil
		s.mu.Unlock()

		for pause := pauseMin; s.write(ctx) != nil; pause = min(2*pause, pauseMax) {
			if sleep(ctx, pause) != nil {
				s.mu.Lock()
				s.running = false
				s.mu.Unlock()
				return
			}
		}
		for _, then := range told {
			then()
		}
	}
}
