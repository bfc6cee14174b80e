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
	attempts  int   // that failed
	flaps     int   // connections that did not live long
	barren    int   // connections that brought nothing
	spent     int64 // bytes that those cost, less costRate for each second since
	accused   int   // connections that the broker ended over a packet of ours
	takeovers int
	last      time.Duration
}

const (
	// Some brokers close the connection without a reason when another client takes the session over. So from the fourth
	// connection on that did not live long, the pauses grow. Long is steadyLife times the longest of these pauses: with
	// another client that pauses as we do, our connections live as long as its pauses.
	quickFlaps = 3
	steadyLife = 3
	// A server that answers, and refuses, costs a TLS handshake each time: its pauses grow to refusedMost.
	refusedMost = time.Minute
	// After a connection that brought nothing, messages are sent again, which costs bytes. The pauses grow to barrenMost. When
	// more than costBurst bytes are spent, each pause is so long that no more than costRate bytes a second are spent.
	barrenMost = 10 * time.Minute
	costBurst  = 64 << 10
	costRate   = 150
	// On a mute connection the broker sends again what this side never sees, so its cost is not known. The pause after it is
	// muteTimes as long as it lived, doubled each time.
	muteTimes = 2
	// The broker ended the connection over a packet of ours; most likely it will again.
	accusedMost = 5 * time.Minute
)

// refused is the pause after an attempt that failed. reached: some server answered.
func (p *pauses) refused(reached bool) time.Duration {
	p.attempts++
	most := p.rules.Max
	if reached {
		most = max(most, refusedMost)
	} else {
		p.barren, p.flaps = 0, 0 // the network was away, and no broker is to blame
	}
	return p.keep(p.rules.within(p.attempts, most))
}

// lost is the pause after a connection.
func (p *pauses) lost(e ending) time.Duration {
	p.attempts = 0
	if e.lived > 4*max(p.last, p.rules.Takeover) {
		p.takeovers = 0
	}
	if e.takenOver() {
		p.takeovers++
		d := doubled(p.rules.Takeover, p.takeovers-1, 20*p.rules.Takeover)
		return p.keep(d + jitter(d/2))
	}
	p.spend(e)
	p.count(e)
	switch {
	case e.another, p.learned(e):
		return p.keep(p.rules.within(1, p.rules.Max))
	case p.accused > 0:
		return p.keep(p.rules.within(p.accused, max(accusedMost, p.rules.Max)))
	case p.barren > 0:
		d := p.rules.within(p.barren, max(barrenMost, p.rules.Max))
		if e.mute() {
			d = max(d, doubled(muteTimes*e.lived, p.barren-1, barrenMost))
		}
		more := time.Duration(max(0, p.spent-costBurst)) * time.Second / costRate
		return p.keep(max(d, min(more, barrenMost)))
	}
	return p.keep(p.rules.within(max(1, p.flaps-quickFlaps+1), p.rules.Max))
}

// spend adds what a connection cost that brought nothing, and takes off what time has paid for.
func (p *pauses) spend(e ending) {
	p.spent = max(0, p.spent-int64((p.last+e.lived).Seconds()*costRate))
	if e.barren() {
		p.spent += e.cost
	}
}

// learned reports whether the end of a connection said something about a message, at a low cost.
func (p *pauses) learned(e ending) bool { return e.tested && p.spent <= costBurst }

// count adds a connection to the counts of what went wrong in a row, and sets those to 0 that it ends.
func (p *pauses) count(e ending) {
	steady := e.lived >= steadyLife*p.rules.Max
	switch {
	case e.accused() && !e.blamed:
		p.accused++
	case e.accused() || steady:
		p.accused = 0
	}
	switch {
	case e.another: // counts when the whole list was tried
	case p.learned(e):
	case e.barren():
		p.barren++
	default:
		p.barren = 0
	}
	if steady && !e.barren() {
		p.flaps = 0
	} else {
		p.flaps++
	}
}

func (p *pauses) keep(d time.Duration) time.Duration {
	p.last = d
	return d
}

// pause is the n-th of a row, n from 1.
func (b Backoff) pause(n int) time.Duration { return b.within(n, b.Max) }

// within is the same with a longest pause of its own.
func (b Backoff) within(n int, most time.Duration) time.Duration {
	d := doubled(b.Min, n-1, most)
	return d/2 + jitter(d/2)
}

func doubled(d time.Duration, times int, most time.Duration) time.Duration {
	for ; times > 0 && d < most; times-- {
		d *= 2
	}
	return min(d, most)
}

func jitter(d time.Duration) time.Duration { return rand.N(d + 1) }
