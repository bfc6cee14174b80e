package cloud

import (
	"math"
	"slices"
	"time"
)

// choose picks the message to send next, in the order of handing over, but commands, jobs and questions before shadow and
// events. Messages that are sent again under their identifiers keep the order of their first sending. A message that the
// link may lose because of its size goes only when nothing else can.
func (o *outbound) choose(now time.Time) (e *entry, wake time.Time) {
	earlier := func(at time.Time) {
		if !at.IsZero() && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
	}
	var nexts [laneCount]*entry
	n, fatal := 0, 0
	for i := range o.lanes {
		l := &o.lanes[i]
		next, at := l.ready(now)
		earlier(at)
		if next == nil || o.full(l) {
			continue
		}
		nexts[n] = next
		n++
		if next.endsConnections() {
			fatal++
		}
	}
	if fatal > 1 {
		longestAgoFirst(nexts[:n])
	}
	largeLast := o.hole.suspects(math.MaxInt)
	if largeLast {
		slices.SortStableFunc(nexts[:n], func(a, b *entry) int { return order(o.vanishes(a)) - order(o.vanishes(b)) })
	}
	for _, next := range nexts[:n] {
		if largeLast && e != nil && o.vanishes(next) {
			break
		}
		wait, at := o.waits(next, now)
		earlier(at)
		if !wait && (e == nil || before(next, e)) {
			e = next
		}
	}
	return e, wake
}

// order is for sorting: false comes before true.
func order(is bool) int {
	if is {
		return 1
	}
	return 0
}

// longestAgoFirst sorts messages that connections end over by when they were tried last.
func longestAgoFirst(nexts []*entry) {
	slices.SortStableFunc(nexts, func(a, b *entry) int {
		if a.endsConnections() && b.endsConnections() {
			return a.refusedAt.Compare(b.refusedAt)
		}
		return 0
	})
}

// before reports whether a message of a later lane goes before another one.
func before(e, other *entry) bool {
	if e.endsConnections() && other.endsConnections() { // in turn, or the first kind's would end each connection before another's
		return e.refusedAt.Before(other.refusedAt)
	}
	if e.dup && other.dup {
		return e.seq < other.seq
	}
	return bulk(e.lane.index) == bulk(other.lane.index) && e.turn < other.turn
}

// full reports whether the lane has its share of what may be in flight. An eighth is kept for the other lanes, so that a
// kind that is not acknowledged does not block them, and another eighth for what must not wait.
func (o *outbound) full(l *lane) bool {
	most := min(o.limits.receiveMaximum, o.window.messages)
	share := most / 8
	if l.flying >= most-share {
		return true
	}
	if bulk(l.index) {
		most -= share
	}
	return o.flight.len >= most
}
