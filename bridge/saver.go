package bridge

import (
	"context"
	"sync"
	"time"

	"fleetbridge/mapping"
)

// saver writes a value that changes faster than it can be made durable: one write at a time, always of the newest value.
// Whoever waits for a change is called back after the first write that has it. While nobody waits, it may pause before a
// write, so that a cache does not cost disk time at every change. It has no goroutine while nothing changes.
type saver struct {
	// write makes the current value durable. An error means: once more after a pause.
	write func(ctx context.Context) error
	// what and thing name it for retries.
	retries *Retries
	thing   mapping.Thing
	what    string
	// pause is how long it rests, and so how late a value is written that nobody waits for.
	pause time.Duration

	mu      sync.Mutex
	running chan struct{} // closed when the goroutine ends; nil: there is none
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
	if s.running == nil {
		s.running = make(chan struct{})
		go s.run(ctx)
	}
}

// settle returns when nothing is being written any more, or ctx ends.
func (s *saver) settle(ctx context.Context) {
	s.mu.Lock()
	running := s.running
	s.mu.Unlock()
	if running == nil {
		return
	}
	select {
	case <-running:
	case <-ctx.Done():
	}
}

// ends says that the goroutine ends. The lock must be held.
func (s *saver) ends() {
	close(s.running)
	s.running = nil
}

func (s *saver) run(ctx context.Context) {
	for {
		s.mu.Lock()
		if !s.dirty {
			s.ends()
			s.mu.Unlock()
			return
		}
		lazy := len(s.waiting) == 0
		s.mu.Unlock()
		if lazy {
			s.rest(ctx)
		}
		s.mu.Lock()
		s.dirty = false
		told := s.waiting
		s.waiting = nil
		s.mu.Unlock()

		if s.retries.Until(ctx, s.thing, s.what, func() error { return s.write(ctx) }) != nil {
			s.mu.Lock()
			s.ends()
			s.mu.Unlock()
			return
		}
		for _, then := range told {
			then()
		}
	}
}

// rest returns when somebody waits for a write, or when the pause is over. When ctx ends first, it writes what it has
// delayed.
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
