package local

import (
	"log/slog"
	"time"
)

// tries counts the failures of something that is tried again until it succeeds. The first in a row is logged, and so is the
// end of them.
type tries struct {
	what     string
	log      *slog.Logger
	note     func(reason string) // is told what is the matter, and "" when it is over
	most     time.Duration       // between two tries
	back     <-chan struct{}     // ends a pause; nil: nothing does
	failures int                 // in a row
}

// pause waits before the next try. It returns false when that is not to be.
func (t *tries) pause(ended <-chan struct{}, err error) bool {
	if t.failures++; t.failures == 1 {
		t.log.Warn("cannot store, trying again", "what", t.what, "error", err)
		t.note("cannot store: " + err.Error())
	}
	timer := time.NewTimer(min(backoffMin<<min(t.failures-1, 10), t.most))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.back:
	case <-ended:
		return false
	}
	return true
}

func (t *tries) succeeded() {
	if t.failures > 0 {
		t.failures = 0
		t.log.Info("storing again", "what", t.what)
		t.note("")
	}
}
