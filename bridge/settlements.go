package bridge

import "sync"

// settlements puts the calls of Delivery.Settle in order: whichever delivery is done first, they are settled in the order
// in which they were expected, once, and one after the other. A duplicate of a message that is still on its way to the
// disk must not be acknowledged before it: for the broker the two are one. What waits here for an older one is bounded
// by what its source hands out unsettled.
type settlements struct {
	mu       sync.Mutex
	entries  []settlement // the ones not yet settled, in order
	first    int          // number of entries[0]
	draining bool
	empty    chan struct{} // set by idle, closed when nothing is left
}

type settlement struct {
	ready  bool
	settle func()
}

// expect adds a delivery and returns what to call, once, when it may be settled as far as it is
// concerned itself.
func (s *settlements) expect(settle func()) (ready func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number := s.first + len(s.entries)
	s.entries = append(s.entries, settlement{settle: settle})
	return func() { s.ready(number) }
}

func (s *settlements) ready(number int) {
	s.mu.Lock()
	s.entries[number-s.first].ready = true
	if s.draining { // that goroutine will come to this entry, too
		s.mu.Unlock()
		return
	}
	s.draining = true
	for len(s.entries) > 0 && s.entries[0].ready {
		settle := s.entries[0].settle
		s.entries[0].settle = nil
		s.entries = s.entries[1:]
		s.first++
		s.mu.Unlock()
		settle()
		s.mu.Lock()
	}
	s.draining = false
	if len(s.entries) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
	s.mu.Unlock()
}

// none reports whether everything is settled.
func (s *settlements) none() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries) == 0 && !s.draining
}

// idle returns a channel that is closed when nothing is unsettled. Don't call expect after it.
func (s *settlements) idle() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := make(chan struct{})
	if len(s.entries) == 0 && !s.draining {
		close(done)
	} else {
		s.empty = done
	}
	return done
}
