package bridge

import (
	"context"
	"sync"
	"time"
)

// saver writes a value that changes faster than it can be made durable: one write at a time, always of
// the newest value, and everybody who waited for a change is told by the write that covers it. While
// nobody waits it may rest between two writes, so that a cache costs no disk time at every change. It has no
// goroutine while nothing changes.
type saver struct {
	// write makes the current value durable. An error means: once more after a pause.
	write func(ctx context.Context) error
	// pause is how long it rests, so how far a value that nobody waits for may be behind.
	pause time.Duration

	mu      sync.Mutex
	running bool
	dirty   bool
	waiting []func()
	hurry   chan struct{} // somebody waits
}

// save schedules a write; then, if not nil, is called when a write that began after this call has
// succeeded. When ctx ends first it is never called.
func (s *saver) save(ctx context.Context, then func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty = true
	if s.hurry == nil {
		s.hurry = make(chan struct{}, 1)
	}
	if then != nil {
		s.waiting = append(s.waiting, then)
		select {
		case s.hurry <- struct{}{}:
		default:
		}
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

		if insist(ctx, func() error { return s.write(ctx) }) != nil {
			s.mu.Lock()
			s.running = false
			s.mu.Unlock()
			return
		}
		for _, then := range told {
			then()
		}
		s.rest(ctx)
	}
}

// rest waits until somebody waits for a write, or until the pause is over. When ctx ends, it makes up for
// what it has kept back.
func (s *saver) rest(ctx context.Context) {
	if s.pause == 0 {
		return
	}
	t := time.NewTimer(s.pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.hurry:
	case <-ctx.Done():
		s.mu.Lock()
		kept := s.dirty
		s.mu.Unlock()
		if kept {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = s.write(last)
		}
	}
}
