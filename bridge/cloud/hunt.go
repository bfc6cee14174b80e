package cloud

import (
	"errors"
	"fmt"
	"os"
	"time"

	"fleetbridge/bridge"
)

// loss is how a connection ended: what may say something about the messages that were in flight.
type loss struct {
	cause error // nil: by our own will
	how   how
	code  byte // of the DISCONNECT; 0: there was none
	at    time.Time
	heard time.Time // when a byte came last
	out   int64     // bytes that the other side had taken
}

type how uint8

const (
	unrelated how = iota // no message was the cause: a take-over, a broker that stops, our own end
	closed               // without a reason, or with one that says nothing about a message
	accusing             // with a code that may be about a message
	stalled              // nothing was acknowledged, or nothing came, for too long
)

// stallError is the cause of a connection that this side gave up because nothing moved.
type stallError struct{ error }

func (e *stallError) Unwrap() error { return e.error }

func stall(format string, args ...any) error { return &stallError{fmt.Errorf(format, args...)} }

// lossOf reads the cause of a connection's end.
func lossOf(cause error, at time.Time) loss {
	e := loss{cause: cause, at: at, how: closed}
	said, still := (*brokerError)(nil), (*stallError)(nil)
	switch {
	case cause == nil:
		e.how = unrelated
	case errors.As(cause, &said):
		e.code, e.how = said.code, unrelated
		if said.accuses() {
			e.how = accusing
		}
	case errors.As(cause, &still), errors.Is(cause, os.ErrDeadlineExceeded):
		e.how = stalled
	}
	return e
}

// loss is the link's, now.
func (l *link) loss() loss {
	out := lossOf(l.conn.lost(), time.Now())
	out.heard = l.conn.lastRead()
	out.out, _ = l.conn.wire.moved()
	return out
}

// hunt finds the message because of which connections end. A code alone is no evidence: an expired token also ends
// connections, whatever is in flight. The evidence is: a connection lived idle for longer than it lived on after the
// message was sent; the next one ended the same way, after it had been idle for longer than the whole life of the one
// before; and other messages of the kind passed. Suspects are sent in groups of one, two, four and so on. When a group ends
// a connection, it is halved.
type hunt struct {
	// The same message was the oldest in flight at the end of so many connections in a row.
	oldest *entry
	streak int

	suspects int           // entries that are marked
	group    int           // how many of them may be in flight
	doubling bool          // group grows with each that passed
	answered int           // of the group
	calm     time.Duration // how long a connection must live idle before a suspect is sent
}

const (
	streakEnough   = 4 // connections in a row with the same message first in flight
	swallowsEnough = 3 // connections on which others of the kind were acknowledged and it was not
	calmLeast      = 200 * time.Millisecond
	calmMost       = time.Minute

	// promptLeast and promptMost bound what counts as a round trip, which is measured.
	promptLeast   = 250 * time.Millisecond
	promptMost    = 5 * time.Second
	promptUnknown = time.Second
)

// prompt is the time within which the broker answers what it is sent.
func (o *outbound) prompt() time.Duration {
	if o.rtt == 0 {
		return promptUnknown
	}
	return min(max(4*o.rtt, promptLeast), promptMost)
}

// lose ends a connection. Questions are completed with an error. A message that is found to end connections is completed as
// refused. The rest stays, to be sent again.
func (o *outbound) lose(end loss) []completion {
	began := o.open
	o.deaf = o.deaf || errors.Is(end.cause, errDeaf) && o.largest == 0
	o.up, o.open, o.tested = false, false, false
	var out []completion
	if began && end.how != unrelated {
		o.strikes(end)
		out = o.blame(end)
	}
	for o.flight.len > 0 {
		o.land(o.flight.head)
	}
	o.alone = nil
	for i := range o.lanes {
		l := &o.lanes[i]
		for e := l.head; e != nil; {
			next := l.after(e)
			if e.volatile {
				o.drop(e)
				out = append(out, completion{e, bridge.ErrNotConnected})
			}
			e = next
		}
	}
	return out
}

// blame finds out what the end of a connection says about the messages in flight. Call it while they still are in flight.
func (o *outbound) blame(end loss) []completion {
	tried := o.inFlight(func(e *entry) bool { return e.endsConnections() || e == e.lane.trial.probe })
	if len(tried) > 0 && o.fatal(tried[0], end) && !tried[0].half(end) {
		o.tested = end.how == closed
		return o.refuseFatal(tried[0], end)
	}
	if done, found := o.swallowed(end); found {
		return done
	}
	if e := o.vanished(end); e != nil {
		return o.refuseFatal(e, end)
	}
	h := &o.hunt
	if h.suspects == 0 {
		o.suspect(end)
		return nil
	}
	inDoubt := o.inFlight(func(e *entry) bool { return e.suspect })
	switch {
	case len(inDoubt) == 0 && o.oldest() == nil: // it ended idle
		o.endHunt()
		return nil
	case len(inDoubt) == 0: // it ended over others, so these become suspects, too
		o.eachSuspect(func(e *entry) { inDoubt = append(inDoubt, e) })
		o.mark(append(inDoubt, o.inFlight(func(e *entry) bool { return !e.volatile })...))
		h.group, h.doubling = 1, true
		return nil
	case !o.fatal(inDoubt[0], end):
		h.calm = min(max(h.calm, o.lived(end)*3/2), calmMost)
		h.answered = 0
		return nil
	}
	o.tested = end.how == closed
	if end.how != stalled {
		h.calm = min(max(h.calm, o.lived(end)*3/2), calmMost)
	}
	o.mark(inDoubt)
	h.doubling, h.group = false, (len(inDoubt)+1)/2
	if len(inDoubt) > 1 {
		return nil
	}
	return o.refuseFatal(inDoubt[0], end)
}

// refuseFatal treats a message that ended a connection while it was alone in flight like one that was refused.
func (o *outbound) refuseFatal(e *entry, end loss) []completion {
	o.endHunt()
	e.calm = calmLeast
	if end.how != stalled {
		e.calm = min(max(calmLeast, o.lived(end)*3/2), calmMost)
	}
	why := &refusal{code: end.code, fatal: true, hung: end.how != stalled,
		words: "the connection ends over it each time: " + end.cause.Error()}
	if e.vanishes && !e.passed && end.how == stalled {
		if o.largest > 0 {
			o.hole.strike(publishSize(e), end.at)
		}
		why.words = fmt.Sprintf("the connection stalls over its %d bytes each time, and carries less: "+
			"a tunnel may lose large packets; look at its MTU: %v", publishSize(e), end.cause)
	}
	if done := o.refuse(e, why, end.at); done != nil {
		return []completion{*done}
	}
	return nil
}

func (o *outbound) lived(end loss) time.Duration { return end.at.Sub(o.began) }

// fatal reports whether a connection may have ended over a message that is in flight: it stalled, or lived on less
// long after the message was sent than it had lived idle before.
func (o *outbound) fatal(e *entry, end loss) bool {
	if end.how == stalled {
		return true
	}
	idle, after := e.launched.Sub(o.began), end.at.Sub(e.launched)
	return after <= max(idle, o.prompt())
}

// suspect begins a hunt when there is reason for one.
func (o *outbound) suspect(end loss) {
	h := &o.hunt
	var suspects []*entry
	if end.how == accusing {
		since := end.at.Add(-o.prompt())
		suspects = o.inFlight(func(e *entry) bool { return !e.volatile && !e.launched.Before(since) })
	}
	calm := max(calmLeast, o.prompt())
	oldest := o.oldest()
	switch {
	case oldest == nil:
		h.oldest, h.streak = nil, 0
	case oldest == h.oldest:
		h.streak++
	default:
		h.oldest, h.streak = oldest, 1
	}
	if len(suspects) == 0 && h.streak >= streakEnough {
		suspects = o.inFlight(func(e *entry) bool { return !e.volatile })
		calm = calmLeast
		if end.how != stalled {
			calm = max(calm, o.lived(end)*3/2)
		}
	}
	if len(suspects) > 0 {
		h.calm, h.group, h.doubling = min(calm, calmMost), 1, true
		o.mark(suspects)
	}
}

// swallowed finds a message that was not acknowledged while others of its kind that were sent after it were, on
// several connections.
func (o *outbound) swallowed(end loss) ([]completion, bool) {
	e := o.oldest()
	if end.how != stalled || e == nil {
		return nil, false
	}
	overtaken := e.lane.taken > e.launch
	if !overtaken && (e.swallowed == 0 || end.heard.Before(e.launched.Add(o.prompt()))) {
		return nil, false
	}
	e.swallowed++
	if e.swallowed < swallowsEnough {
		return nil, true
	}
	o.drop(e)
	e.lane.headRefused()
	return []completion{{e, bridge.Rejectf(bridge.CodeRefused,
		"topic %q: the broker never acknowledged it on %d connections, and acknowledged others that were sent after it", e.topic, e.swallowed)}}, true
}

// strikes counts connections that ended over questions: nothing else was in flight.
func (o *outbound) strikes(end loss) {
	asked := o.inFlight(func(e *entry) bool { return e.volatile })
	if len(asked) == 0 || len(asked) < o.flight.len || end.at.Sub(asked[len(asked)-1].launched) > o.prompt() {
		return
	}
	if end.how == stalled {
		return
	}
	for _, e := range asked {
		o.memory.hungUp(e.message.Address.Channel, end)
	}
}

// oldest is the oldest message in flight that is no question.
func (o *outbound) oldest() *entry {
	for e := o.flight.head; e != nil; e = o.flight.after(e) {
		if !e.volatile {
			return e
		}
	}
	return nil
}

func (o *outbound) inFlight(which func(*entry) bool) (out []*entry) {
	for e := o.flight.head; e != nil; e = o.flight.after(e) {
		if which(e) {
			out = append(out, e)
		}
	}
	return out
}

// mark makes these the suspects, and no others.
func (o *outbound) mark(suspects []*entry) {
	o.eachSuspect(func(e *entry) { e.suspect = false })
	for _, e := range suspects {
		e.suspect = true
	}
	o.hunt.suspects, o.hunt.answered = len(suspects), 0
}

// acquit ends a hunt.
func (o *outbound) endHunt() {
	o.mark(nil)
	o.hunt = hunt{}
}

func (o *outbound) eachSuspect(f func(*entry)) {
	if o.hunt.suspects == 0 {
		return
	}
	for i := range o.lanes {
		for e := o.lanes[i].head; e != nil; e = o.lanes[i].after(e) {
			if e.suspect {
				f(e)
			}
		}
	}
}

// unsuspect takes a message out of the suspects: it was answered, or is gone.
func (o *outbound) unsuspect(e *entry) {
	h := &o.hunt
	if h.oldest == e {
		h.oldest, h.streak = nil, 0
	}
	if !e.suspect {
		return
	}
	e.suspect = false
	h.suspects--
	h.answered++
	switch {
	case h.suspects == 0:
		o.hunt = hunt{}
	case h.answered < h.group:
	case h.doubling:
		h.group, h.answered = 2*h.group, 0
	default:
		h.group, h.answered = (h.suspects+1)/2, 0
	}
}

// waits reports whether a message must wait because it, or another one, may end the connection, and until when.
func (o *outbound) waits(e *entry, now time.Time) (wait bool, wake time.Time) {
	if o.alone != nil && o.alone != e {
		if o.alone.flying && o.vanishes(o.alone) {
			return true, time.Time{}
		}
		if now.Before(o.aloneUntil) {
			return true, o.aloneUntil
		}
		o.alone = nil
	}
	h := &o.hunt
	single := e.endsConnections() || o.vanishes(e)
	if !e.suspect && !single {
		return false, time.Time{}
	}
	if until := o.began.Add(max(h.calm, e.calm)); now.Before(until) {
		return true, until
	}
	if single || h.group == 1 {
		if o.alone != e {
			o.alone, o.aloneUntil = e, now.Add(o.prompt())
		}
		if o.flight.len > 0 && now.Before(o.aloneUntil) {
			return true, o.aloneUntil
		}
	}
	if single {
		return false, time.Time{}
	}
	flying := len(o.inFlight(func(f *entry) bool { return f.suspect }))
	return flying+h.answered >= h.group, time.Time{}
}
