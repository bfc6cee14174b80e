package bridge

import "time"

// marksAhead is how far a stored timestamp may be ahead of the clock before it counts as one of a wrong clock.
const marksAhead = time.Minute

// clockFloor is before any release of this program. A clock that shows less was not set yet, as at the boot of a
// gateway without a battery. So the age of what was stored then is unknown, and such a clock proves no mark wrong.
var clockFloor = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// farAhead reports whether a time was taken by a clock that was far ahead of what it shows now.
func farAhead(t, now time.Time) bool { return t.After(now.Add(marksAhead)) && now.After(clockFloor) }

// StampClock gives out Unix milliseconds that only grow, however many are asked for at once. When the clock is set
// back far, they go back with it: otherwise one look at a wrong clock would have an effect for ever.
type StampClock struct {
	Last   int64     // given out
	latest time.Time // that the clock has shown
	judged bool      // whether Last, of an earlier run, was compared with the clock
}

// SetBack compares the clock with what was given out. If that comes from a clock that was wrong, SetBack forgets it and
// returns by how much it is ahead. Otherwise it returns 0.
func (c *StampClock) SetBack(now time.Time) (ahead time.Duration) {
	last := time.UnixMilli(c.Last)
	wrong := c.latest.After(now.Add(marksAhead)) || !c.judged && farAhead(last, now)
	if now.After(clockFloor) {
		c.judged = true
	}
	if c.latest.Before(now) || wrong {
		c.latest = now
	}
	if !wrong || !farAhead(last, now) {
		return 0
	}
	c.Last = 0
	return last.Sub(now)
}

// Next returns the first timestamp from ms on that was not given out.
func (c *StampClock) Next(ms int64) int64 {
	c.Last = max(ms, c.Last+1)
	return c.Last
}
