package soak

import "time"

// killAgain kills the bridge under load, again and again on the same store, at random moments: a third
// of them during its start.
func killAgain(w *World) {
	times := w.Pick(3, 100)
	s := newProcSite(w, procOptions{patience: time.Minute + time.Duration(times)*5*time.Second})
	s.bridge.start(s.ctx)
	s.bridge.ready(s.ctx)
	s.begin(4 * time.Millisecond)
	for i := range times {
		if i%3 == 2 {
			s.nap(w.Between(0, 250*time.Millisecond))
		} else {
			s.nap(w.Between(50*time.Millisecond, 500*time.Millisecond))
		}
		s.bridge.kill()
		w.Fault()
		s.bridge.launch()
		if i%3 != 1 {
			w.Recovered(s.bridge.ready(s.ctx))
		}
	}
	w.Recovered(s.bridge.ready(s.ctx))
	s.nap(200 * time.Millisecond)
	s.finish()
	s.expectOnly(0, "nats: Filestore", "packet identifier in use")
}
