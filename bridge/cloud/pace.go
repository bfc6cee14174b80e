package cloud

import "time"

const (
	// paceSlack lets a high rate go out in small bursts rather than with a timer a message.
	paceSlack = 10 * time.Millisecond
	// After a broker has refused messages because they come too fast, the rate is halved for refusedRest, or for
	// kickedRest when it has ended the connection, and then doubled every restStep until it is no limit any more.
	refusedRest = 10 * time.Second
	kickedRest  = time.Minute
	restStep    = 5 * time.Second
	slowRate    = time.Second // between two messages, at the slowest
	leastRate   = 2           // messages a second: slower ones are not refused because of their rate
)

// pace spaces messages: by the configured rate, and by what the broker says.
type pace struct {
	own   time.Duration // between two messages; 0: no limit
	slow  time.Duration // the same, for a while
	until time.Time     // when slow is halved
	next  time.Time     // when the next message is due

	halved time.Time // when it last was

	count int       // messages since
	since time.Time // for measuring
	rate  float64   // messages a second of the last measure
}

// interval is what holds now.
func (p *pace) interval(now time.Time) time.Duration {
	for p.slow > 0 && !now.Before(p.until) {
		p.slow /= 2
		p.until = p.until.Add(restStep)
		if p.slow < time.Millisecond {
			p.slow = 0
		}
	}
	return max(p.own, p.slow)
}

// due is when the next message may go; zero: now.
func (p *pace) due(now time.Time) time.Time {
	if p.interval(now) > 0 {
		if due := p.next.Add(-paceSlack); now.Before(due) {
			return due
		}
	}
	return time.Time{}
}

// sent notes a message.
func (p *pace) sent(now time.Time) {
	if d := now.Sub(p.since); d >= time.Second {
		p.rate = float64(p.count) / d.Seconds()
		p.count, p.since = 0, now
	}
	p.count++
	if d := p.interval(now); d > 0 {
		if p.next.Before(now) {
			p.next = now
		}
		p.next = p.next.Add(d)
	}
}

// tooFast halves the rate, at most once a second, because a broker refuses every message of a burst. It reports whether it
// did. When few messages were sent, their rate was not the reason.
func (p *pace) tooFast(now time.Time, rest time.Duration) bool {
	if now.Sub(p.halved) < time.Second {
		return false
	}
	before := p.interval(now)
	used := float64(p.count) / max(1, now.Sub(p.since).Seconds())
	if now.Sub(p.since) < time.Second {
		used = max(used, p.rate) // of the second before
	}
	if used < leastRate || before > 0 && used < p.limit(now)/2 {
		return false
	}
	if before == 0 {
		before = time.Duration(float64(time.Second) / used)
	}
	p.halved, p.slow, p.until = now, min(2*before, slowRate), now.Add(rest)
	return true
}

// limit is the rate that holds now, in messages a second; infinite when there is no limit.
func (p *pace) limit(now time.Time) float64 { return 1 / p.interval(now).Seconds() }
