package bridge

import "time"

// loopGuard breaks delta loops: the cloud wants what the device cannot reach, the device reports what
// it has, the cloud sends the same delta again under a new version, and so on for ever (a set point
// clamped by hardware). A state that comes again and again, each time right after a report, is
// admitted a few times and then with growing pauses. Without a report in between it is no loop and is
// always admitted.
type loopGuard struct {
	state    uint64 // the last delivered delta's state
	answered bool   // a report has gone up since
	rounds   int
	until    time.Time
}

const (
	loopFree = 3 // rounds before the first pause
	loopMin  = time.Second
	loopMax  = time.Minute
)

// reported notes that a report went up.
func (g *loopGuard) reported() { g.answered = true }

// admits notes a delta with this state and reports whether to deliver it.
func (g *loopGuard) admits(state uint64, now time.Time) bool {
	if state != g.state || !g.answered {
		if state != g.state {
			g.rounds, g.until = 0, time.Time{}
		}
		g.state, g.answered = state, false
		return true
	}
	if now.Before(g.until) {
		return false
	}
	g.answered = false
	g.rounds++
	if over := g.rounds - loopFree; over >= 0 {
		g.until = now.Add(min(loopMin<<min(over, 10), loopMax))
	}
	return true
}
