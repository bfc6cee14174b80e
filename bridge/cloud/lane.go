package cloud

import (
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// The lanes. Questions have a lane of their own, so they wait for no other kind. Lanes before laneShadow go first.
const (
	laneCommands = iota
	laneJobs
	laneQuestions
	laneShadow
	laneEvents
	laneCount
)

var laneNames = [laneCount]string{"commands", "jobs", "questions", "shadow", "events"}

func laneOf(e *entry) int {
	if e.volatile {
		return laneQuestions
	}
	return laneOfKind(e.message.Address.Route().Kind)
}

func laneOfKind(k mapping.Kind) int {
	return [len(mapping.Kinds)]int{laneCommands, laneJobs, laneShadow, laneEvents}[k]
}

// bulk reports whether the lane's messages may wait for those of others.
func bulk(lane int) bool { return lane > laneQuestions }

// lane holds the messages of one kind, in the order in which they were handed over. Those before next are in flight, or
// were refused and wait for another try.
type lane struct {
	queue
	index  int
	next   *entry
	flying int
	taken  uint64 // the newest launch that the broker took
	trial  trial

	takenTopic string // of the message that was taken last
	mended     uint64 // the newest launch of a message that was taken after it had been refused
}

// trial finds out whether a refusal is about a message or about its whole kind. It begins with the first refusal.
// The lane sends nothing new until all that is in flight is answered, pauses, and begins a round from its head, in order,
// with a window that each success doubles. Now and then those behind the head go in the round with it: if the head is
// refused and one of them is taken, it is the head. If nothing is taken, nobody is blamed, and the pauses grow. What is
// sent only after the head's refusal would say the same, and overtake the head when the rule is mended in between.
//
// When a connection ends over the head, one other message is tried next, before the head again.
type trial struct {
	window   int  // 0: there is no trial
	left     int  // how many the round may still send after a refusal
	paused   bool // when the round is over: until nothing is in flight and resume has come
	round    bool // it has begun again since the first refusal
	passed   bool // something was taken in the round
	resume   time.Time
	failures int    // rounds in a row of which nothing was taken
	probe    *entry // another than the head, over which connections end, to be tried now
	others   int    // how many were tried so that had been refused before
	fresh    bool   // a message has come behind a head that was alone
	why      *refusal
}

// roundSize is how many messages the next round takes. Rounds 1, 2, 4, 8 and so on take twice as many as their number,
// the others the head alone, as long as its refusals may pass with time, too: each message has its turn, at three a
// round.
func (l *lane) roundSize() int {
	n, r := l.trial.failures, l.trial.why
	switch {
	case r == nil, r.fatal, l.head.tries < r.tries()-2:
		return 1
	case l.trial.fresh:
		return max(2, n)
	case n == 0, n&(n-1) != 0:
		return 1
	}
	return 2 * n
}

// standing reports whether the lane stands still, because the broker takes nothing of its kind.
func (l *lane) standing() bool { return l.trial.failures >= standingAfter && l.trial.why != nil }

const (
	// standingAfter is how many rounds without any success make a kind one that stands still.
	standingAfter = 2
	// freshPause is how soon a message is tried that has come behind a refused head that was alone.
	freshPause = time.Second
)

func (l *lane) add(e *entry) {
	e.lane = l
	l.push(e)
	if l.next == nil {
		l.next = e
	}
	if l.trial.paused && l.len == 2 {
		l.trial.fresh = true
	}
}

// ready returns the lane's next message, or when it may have one.
func (l *lane) ready(now time.Time) (*entry, time.Time) {
	t := &l.trial
	if t.paused && l.sent() {
		if l.flying > 0 {
			return nil, time.Time{}
		}
		if soon := now.Add(freshPause); t.fresh && soon.Before(t.resume) {
			t.resume = soon
		}
		if now.Before(t.resume) {
			return nil, t.resume
		}
		t.window = l.roundSize()
		t.left, t.paused, t.round, t.passed, t.fresh = t.window, false, true, false, false
		l.next = l.head
	}
	switch {
	case t.window > 0 && l.flying >= t.window:
		return nil, time.Time{}
	case t.probe != nil && !t.probe.flying:
		return t.probe, time.Time{}
	}
	l.skip()
	return l.next, time.Time{}
}

// skip moves next past what is in flight. In a trial it also skips messages behind the head that end connections: they
// would keep those behind them from their turn.
func (l *lane) skip() {
	for e := l.next; e != nil && (e.flying || l.trial.window > 0 && e != l.head && e.endsConnections()); e = l.next {
		l.next = l.after(e)
	}
}

// sent reports whether the round has sent what it takes.
func (l *lane) sent() bool {
	if l.skip(); l.next == nil { // messages that come from now on belong to the next round
		l.trial.left = 0
	}
	return l.trial.left == 0
}

// fail begins a trial, or ends its round when nothing more of it is to come.
func (l *lane) fail(r *refusal, now time.Time, pause time.Duration) {
	t := &l.trial
	if r.fatal {
		t.left = 0
	}
	if t.window == 0 || r.fatal && !t.paused || t.round && !t.passed && l.flying == 0 && l.sent() {
		t.failures++
	}
	if !t.paused {
		t.paused, t.resume = true, now.Add(pause)
	}
	t.why, t.window, t.probe = r, max(t.left, 1), nil
}

// probeAnother chooses another message of the lane to be sent before the head is tried again. It reports whether there is one.
func (l *lane) probeAnother() bool {
	t := &l.trial
	if t.probe = l.untried(); t.probe == nil {
		t.probe = l.other(t.others)
		t.others++
	}
	if t.probe == nil {
		return false
	}
	t.window, t.paused = 1, false
	l.next = l.head
	return true
}

// untried is the first message behind the head that was never refused. In this order it overtakes nothing but what is
// refused.
func (l *lane) untried() *entry {
	for e := l.head; e != nil; e = l.after(e) {
		if e != l.head && e.tries == 0 && !e.flying {
			return e
		}
	}
	return nil
}

// other returns the messages behind the head in turn, by n, for when all of them were refused.
func (l *lane) other(n int) *entry {
	if l.len < 2 {
		return nil
	}
	e := l.after(l.head)
	for range n % (l.len - 1) {
		e = l.after(e)
	}
	if e.flying {
		return nil
	}
	return e
}

// succeed notes that the broker took a message, and widens the window of a trial until it is the usual one again.
func (l *lane) succeed(e *entry, usual int, now time.Time, pause time.Duration) {
	l.taken = max(l.taken, e.launch)
	t := &l.trial
	if t.window == 0 {
		return
	}
	t.passed = true
	if t.round {
		t.failures = 0
	}
	switch {
	case t.probe == e:
		t.probe = nil
		if l.head != nil && l.head.tries > 0 { // the head is next, after a pause
			t.paused, t.resume = true, now.Add(pause)
		}
	case t.paused: // others were refused in the same flight
		for r := l.head; r != nil; r = l.after(r) {
			r.proven = r.proven || r.tries > 0 && l.head.refused <= r.refused && r.refused < e.launch
		}
		if t.left = 0; t.round {
			t.resume = now.Add(pause)
		}
	default:
		if t.window *= 2; t.window >= usual {
			l.trial = trial{}
			l.next = l.head
		}
	}
}

// headRefused goes on after it was found out that the broker refuses the head itself, and not its kind.
func (l *lane) headRefused() {
	if l.trial.window > 0 {
		l.trial = trial{window: 1, why: l.trial.why}
		l.next = l.head
	}
}

// refusal is why a message was not taken: a code, or what became of the connection.
type refusal struct {
	code  byte   // of the PUBACK or DISCONNECT; 0: there was none
	words string // ends "topic …: "
	fatal bool   // the connection ended
	hung  bool   // the broker ended it
}

// tries is how often a message must be refused before the message itself can be blamed.
func (r *refusal) tries() int {
	switch {
	case r.fatal:
		return 3
	case r.code == 0x91, r.code == 0x96, r.code == 0x97: // they pass with time, more often than not
		return 6
	}
	return 3
}

// evidenceTime is how long it may take at most that a message is refused, another one taken, and the first refused again. If
// it takes longer, the broker's rule may have changed in between. New connections need more time.
func (r *refusal) evidenceTime() time.Duration {
	if r.fatal {
		return 10 * time.Minute
	}
	return 5 * time.Second
}

func (r *refusal) rejection(e *entry) *bridge.Rejection {
	return bridge.Rejectf(bridge.CodeRefused, "topic %q: %s", e.topic, r.words)
}
