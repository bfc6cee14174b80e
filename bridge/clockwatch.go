package bridge

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// ClockWatch compares the gateway's clock with the cloud's. It logs when they differ, when the difference changes, and when
// they agree again. A nil ClockWatch logs nothing.
type ClockWatch struct {
	Log *slog.Logger
	// Allowed is by how much they may differ.
	Allowed time.Duration

	mu      sync.Mutex
	ahead   time.Duration
	differs bool
}

// clockChange is how far a difference must move to be said again.
const clockChange = 30 * time.Second

// Compare notes by how much the gateway's clock is ahead of the cloud's; negative: behind. by says, for the log, how this
// is known.
func (w *ClockWatch) Compare(ahead time.Duration, by string) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	differs := ahead.Abs() > max(w.Allowed, clockRough)
	news := differs != w.differs || differs && (ahead-w.ahead).Abs() > clockChange
	w.ahead, w.differs = ahead, differs
	switch {
	case news && differs:
		w.Log.Warn("the clocks of the gateway and of the cloud differ; set the gateway's, for example: timedatectl set-ntp true", "ahead", ahead.Round(time.Second), "by", by, "effect", effect(ahead))
	case news:
		w.Log.Info("the clocks of the gateway and of the cloud agree again")
	}
}

// clockRough is how exactly the cloud's clock is known: its times have whole seconds.
const clockRough = 2 * time.Second

func effect(ahead time.Duration) string {
	if ahead > 0 {
		return "commands count as expired, are not run, and are answered TIMED_OUT"
	}
	return "commands run after their time"
}

// Trouble says by how much the clocks differ; empty: they agree, as far as is known.
func (w *ClockWatch) Trouble() string {
	if w == nil {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !w.differs:
		return ""
	case w.ahead < 0:
		return fmt.Sprintf("the gateway's clock is %s behind the cloud's", w.ahead.Abs().Round(time.Second))
	}
	return fmt.Sprintf("the gateway's clock is %s ahead of the cloud's", w.ahead.Round(time.Second))
}

// because is Trouble at the end of a sentence.
func (w *ClockWatch) because() string {
	if trouble := w.Trouble(); trouble != "" {
		return "; " + trouble
	}
	return ""
}

// Ahead is by how much the gateway's clock was ahead when they were last compared.
func (w *ClockWatch) Ahead() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ahead
}

// arrivals finds out from the commands of one Thing whether the clocks differ. One late command may have waited for the
// connection. Several that are all late by the same time have not.
type arrivals struct {
	watch *ClockWatch

	n       int // in a row
	late    time.Duration
	first   time.Time
	accused bool
}

const (
	arrivalsEnough = 3
	arrivalsSpan   = time.Second     // between the first and the last of them: else they may have waited together
	arrivalsSame   = 2 * time.Second // how much their delays may differ
)

// note looks at a command that was received at one time, by the gateway's clock, and sent at another, by the cloud's.
func (a *arrivals) note(received, sent time.Time) {
	if a.watch == nil || sent.IsZero() {
		return
	}
	late := received.Sub(sent)
	if late.Abs() <= max(a.watch.Allowed, clockRough) {
		if a.n = 0; a.accused {
			a.accused = false
			a.watch.Compare(late, "commands")
		}
		return
	}
	if a.n == 0 || (late-a.late).Abs() > arrivalsSame {
		a.n, a.late, a.first = 0, late, received
	}
	if a.n++; a.n >= arrivalsEnough && received.Sub(a.first) >= arrivalsSpan {
		a.accused = true
		a.watch.Compare(late, fmt.Sprintf("%d commands in a row", a.n))
	}
}
