package cloud

import (
	"math/rand/v2"
	"time"
)

// Backoff is how long the session pauses between connections. Every pause is jittered.
type Backoff struct {
	// Min is the first pause, doubled by each failure up to Max. Default 500 ms and 30 s.
	Min, Max time.Duration
	// Takeover is the first pause after another client took the session over, doubled each time up to
	// twenty times as long: two owners must not kick each other out in a loop. Default 30 s.
	Takeover time.Duration
}

// pauses counts what went wrong in a row.
type pauses struct {
	rules     Backoff
	attempts  int // that failed
	flaps     int // connections that did not live long
	takeovers int
	last      time.Duration
}

const (
	// Some brokers close the connection without a word when another client takes the session over. From
	// the fourth connection on that lived shorter than quickLife, the pauses grow; one that lived longer
	// than that and than the pause before it takes back a step, and stableLife takes back all.
	quickLife  = 5 * time.Second
	stableLife = time.Minute
	quickFlaps = 3
)

// refused is the pause after an attempt that failed.
func (p *pauses) refused() time.Duration {
	p.attempts++
	return p.keep(p.rules.pause(p.attempts))
}

// lost is the pause after a connection that lived for a while.
func (p *pauses) lost(lived time.Duration, takenOver bool) time.Duration {
	p.attempts = 0
	if lived > 4*max(p.last, p.rules.Takeover) {
		p.takeovers = 0
	}
	if takenOver {
		p.takeovers++
		d := doubled(p.rules.Takeover, p.takeovers-1, 20*p.rules.Takeover)
		return p.keep(d + jitter(d/2))
	}
	switch {
	case lived >= stableLife:
		p.flaps = 0
	case lived >= max(p.last, quickLife):
		p.flaps = max(0, p.flaps-1)
	default:
		p.flaps++
	}
	return p.keep(p.rules.pause(max(1, p.flaps-quickFlaps+1)))
}

func (p *pauses) keep(d time.Duration) time.Duration {
	p.last = d
	return d
}

// pause is the n-th of a row, n from 1.
func (b Backoff) pause(n int) time.Duration {
	d := doubled(b.Min, n-1, b.Max)
	return d/2 + jitter(d/2)
}

func doubled(d time.Duration, times int, most time.Duration) time.Duration {
	for ; times > 0 && d < most; times-- {
		d *= 2
	}
	return min(d, most)
}

func jitter(d time.Duration) time.Duration { return rand.N(d + 1) }
