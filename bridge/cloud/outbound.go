package cloud

import (
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// limits is what the broker allows on one connection.
type limits struct {
	receiveMaximum int  // messages in flight
	packetSize     int  // bytes of a packet; 0: any
	atMostOnce     bool // Maximum QoS 0: no PUBACK ever comes
}

// rules is what the Session's configuration allows.
type rules struct {
	window     int           // messages of a kind handed over and unacknowledged
	ackTimeout time.Duration // how long the oldest message in flight may stay the oldest
	interval   time.Duration // between two messages; 0: no limit
	qos0       bool          // send to a broker that acknowledges nothing
	// delay is the pause before the n-th try, n from 1.
	delay func(n int) time.Duration
}

// outbound decides what is sent next. It holds every message between Send and its completion, in one
// lane a kind, and does no I/O, takes no lock and reads no clock: its owner does.
type outbound struct {
	rules  rules
	lanes  [laneCount]lane
	flight queue             // what was sent on this connection and is not answered
	ids    map[uint16]*entry // identifiers in use; nil: a SUBSCRIBE's
	lastID uint16
	lastSq uint64
	turns  uint64 // how many messages were handed over
	starts uint64 // how many were sent, each try counted

	limits   limits
	up       bool      // connected
	open     bool      // and subscribed: messages may go
	began    time.Time // when messages could go first
	since    time.Time // since when flight.head has been the oldest
	answered uint64    // the newest launch that was answered
	largest  int       // bytes of the largest packet that was answered on this connection
	rtt      time.Duration
	window   window
	pace     pace
	cautious bool // the last connections brought nothing
	deaf     bool // a connection was ended because no PUBACK came, and none has come since

	memory memory
	hole   hole
	hunt   hunt
	tested bool // the last connection ended, without a word, over a message that was suspected
	// alone is sent when nothing else is in flight, and nothing else is sent until aloneUntil.
	alone      *entry
	aloneUntil time.Time
}

// completion is a message that has ended; err is for its done.
type completion struct {
	entry *entry
	err   error
}

func newOutbound(r rules) *outbound {
	o := &outbound{rules: r, flight: queue{by: byFlight}, ids: map[uint16]*entry{}, memory: newMemory(), pace: pace{own: r.interval}}
	for i := range o.lanes {
		o.lanes[i] = lane{queue: queue{by: byHandover}, index: i}
	}
	return o
}

// add puts a message at the end of its kind.
func (o *outbound) add(e *entry) {
	o.turns++
	e.turn = o.turns
	o.lanes[laneOf(e)].add(e)
}

// waiting is the number of messages handed over and not completed.
func (o *outbound) waiting() int {
	n := 0
	for i := range o.lanes {
		n += o.lanes[i].len
	}
	return n
}

// connect begins a connection; messages go after begin. With a session present the broker may have
// what was in flight, so it is sent again under its identifiers and marked; without one everything is
// new to it.
func (o *outbound) connect(lim limits, sessionPresent bool) {
	o.limits, o.up, o.open, o.largest = lim, true, false, 0
	o.window.open(o.cautious)
	clear(o.ids)
	for i := range o.lanes {
		l := &o.lanes[i]
		l.next, l.trial.left = l.head, 0
		for e := l.head; e != nil; e = l.after(e) {
			if sessionPresent && e.id != 0 {
				e.dup = true
				o.ids[e.id] = e
			} else {
				e.forget()
			}
		}
	}
}

// forget makes the next sending a first one.
func (e *entry) forget() { e.id, e.seq, e.dup = 0, 0, false }

// held reports whether nothing may be sent: the broker could keep no promise.
func (o *outbound) held() bool { return o.limits.atMostOnce && !o.rules.qos0 }

// begin lets messages go, unless they are held.
func (o *outbound) begin(now time.Time) {
	if !o.open && o.up && !o.held() {
		o.open, o.began = true, now
	}
}

// land takes a message out of flight; it stays in its lane.
func (o *outbound) land(e *entry) {
	if !e.flying {
		return
	}
	e.flying = false
	o.window.flying -= publishSize(e)
	e.lane.flying--
	o.flight.remove(e)
}

// drop takes a message out altogether.
func (o *outbound) drop(e *entry) {
	o.land(e)
	if e.id != 0 {
		delete(o.ids, e.id)
	}
	o.unsuspect(e)
	if o.alone == e {
		o.alone = nil
	}
	l := e.lane
	if l.next == e {
		l.next = l.after(e)
	}
	if l.trial.probe == e {
		l.trial.probe = nil
	}
	l.remove(e)
	if l.len == 0 {
		l.trial.why = nil
	}
}

// step is what to do now: send a message, complete one that must not be sent, or wait for an
// acknowledgement, a new message, or the time wake.
type step struct {
	send *entry
	drop completion
	wake time.Time // zero: nothing is due by itself
}

// advance returns the next step and, when that is to send, takes the message for sent.
func (o *outbound) advance(now time.Time) step {
	if !o.open {
		return step{}
	}
	e, wake := o.choose(now)
	if e == nil {
		return step{wake: wake}
	}
	e.renew()
	if err := o.unfit(e, now); err != nil {
		o.drop(e)
		return step{drop: completion{e, err}}
	}
	if !o.window.has(o.flight.len, publishSize(e)) {
		return step{}
	}
	if due := o.pace.due(now); !due.IsZero() {
		return step{wake: due}
	}
	if !o.limits.atMostOnce && e.id == 0 {
		if e.id = o.reserve(e); e.id == 0 {
			return step{} // every identifier is in use: an acknowledgement frees one
		}
	}
	o.launch(e, now)
	return step{send: e}
}

func (o *outbound) launch(e *entry, now time.Time) {
	if e.seq == 0 {
		o.lastSq++
		e.seq = o.lastSq
	}
	if o.flight.len == 0 {
		o.since = now
	}
	o.pace.sent(now)
	o.window.flying += publishSize(e)
	o.starts++
	e.launch, e.launched, e.end, e.passed = o.starts, now, 0, false
	e.flying = true
	l := e.lane
	l.flying++
	l.trial.left = max(l.trial.left-1, 0)
	if l.next == e {
		l.next = l.after(e)
	}
	o.flight.push(e)
	if o.alone == e {
		o.aloneUntil = now.Add(o.prompt())
	}
}

// unfit says why a message can't be sent on this connection, or can't be sent any more; nil: it can.
func (o *outbound) unfit(e *entry, now time.Time) error {
	if m := &e.message; !m.Expires.IsZero() && now.After(m.Expires) {
		return bridge.Rejectf(bridge.CodeExpired, "topic %q: older than %v, not sent any more", e.topic, m.Expires.Sub(m.Received))
	}
	if why := o.memory.hung(e.topic, now); why != "" {
		return bridge.Rejectf(bridge.CodeRefused, "topic %q: %s", e.topic, why)
	}
	size := publishSize(e)
	if why := o.hole.unsent(size, now); why != "" {
		return bridge.Rejectf(bridge.CodeRefused, "topic %q: %s", e.topic, why)
	}
	if o.limits.packetSize > 0 && size > o.limits.packetSize {
		return bridge.Rejectf(bridge.CodeTooLarge, "topic %q: the packet has %d bytes, the broker takes at most %d",
			e.topic, size, o.limits.packetSize)
	}
	return nil
}

// acked takes a PUBACK. done is set when it completes its message; an identifier that is not in use is ignored.
func (o *outbound) acked(id uint16, a answer, now time.Time) (done *completion) {
	e := o.ids[id]
	if e == nil {
		return nil
	}
	o.deaf = false
	if e == o.flight.head {
		o.since = now
	}
	if e.flying {
		o.answered, o.largest = max(o.answered, e.launch), max(o.largest, publishSize(e))
		if d := now.Sub(e.launched); o.rtt == 0 {
			o.rtt = d
		} else {
			o.rtt += (d - o.rtt) / 8
		}
	}
	if e.volatile {
		o.memory.answered(e.message.Address.Channel)
	}
	if e.flying && (a.code < 0x80 || finalCodes[a.code]) {
		o.window.acked(publishSize(e), now.Sub(e.launched))
	}
	if a.code < 0x80 {
		o.take(e, now)
		return &completion{entry: e}
	}
	o.unsuspect(e)
	return o.refuse(e, a.refusal(), now)
}

// take notes that the broker has a message.
func (o *outbound) take(e *entry, now time.Time) {
	l := e.lane
	o.memory.taken(e.topic)
	o.hole.passed(publishSize(e))
	if e.tries > 0 {
		l.mended = e.launch
	}
	l.succeed(e, o.rules.window, now, o.rules.delay(1))
	o.drop(e)
	if e.message.Address.Route().Kind == mapping.Jobs { // a question that passes speaks for its kind
		jobs := &o.lanes[laneJobs]
		jobs.taken, jobs.takenTopic = max(jobs.taken, e.launch), e.topic
	}
	l.takenTopic = e.topic
}

// refuse handles a refusal of a message: the broker's answer, or the end of a connection on which it was in flight. done is
// set when the message itself is to blame, and not its kind: then it is a dead letter. Otherwise it is tried again.
func (o *outbound) refuse(e *entry, r *refusal, now time.Time) (done *completion) {
	l := e.lane
	alone := l.flying <= 1
	head := e == l.head
	if e.id != 0 && !r.fatal {
		delete(o.ids, e.id)
		e.forget()
	}
	o.land(e)
	if e.refused < l.mended { // the broker's rule has changed since then, so earlier refusals say nothing
		e.tries, e.witnessed, e.proven = 0, false, false
	}
	others := e.tries > 0 && l.taken > e.refused && now.Sub(e.refusedAt) <= max(r.evidenceTime(), 6*o.rtt)
	if e.tries == 0 || alone || head {
		e.tries++
	}
	e.witnessed = e.witnessed || others
	e.refused, e.refusedAt, e.why = e.launch, now, r
	switch {
	case e.volatile, finalCode(r), o.memory.refuses(e.topic, r, now), o.hole.refuses(e, r, now):
	case e.tries >= r.tries() && (others || e.proven || e.witnessed && l.untried() == nil):
		o.memory.refused(e.topic, l.takenTopic, r, now)
	default:
		o.doubt(e, r, now, alone, head)
		return nil
	}
	o.drop(e)
	l.headRefused()
	return &completion{e, r.rejection(e)}
}

// doubt plans the next tries while it is not known whether a refusal is about the message or about its kind.
func (o *outbound) doubt(e *entry, r *refusal, now time.Time, alone, head bool) {
	l := e.lane
	if !head { // what was behind the head is refused as well
		l.head.witnessed = false
	}
	if r.fatal && alone && head && e.tries >= r.tries()-1 && l.probeAnother() {
		l.trial.why = r
		return
	}
	pause := o.rules.delay(l.trial.failures + 1)
	if r.fatal {
		pause = doubled(fatalPause, l.trial.failures, fatalPauseMost)
	}
	l.fail(r, now, pause)
}

// A message that ends connections is tried again after fatalPause, doubled each time up to fatalPauseMost. Meanwhile the
// other messages have a connection.
const (
	fatalPause     = time.Second
	fatalPauseMost = 5 * time.Minute
)

// sent completes a message of a broker that acknowledges none. It reports whether the message was
// still in flight.
func (o *outbound) sent(e *entry) bool {
	if !e.flying {
		return false
	}
	o.drop(e)
	return true
}

// stalled reports whether the oldest message in flight has been the oldest for too long. A slow broker
// that answers in order, as it must, is not stalled.
func (o *outbound) stalled(now time.Time) bool {
	if o.flight.len == 0 {
		return false
	}
	overtaken := o.flight.head.launch < o.answered
	return now.Sub(o.since) >= o.rules.ackTimeout || overtaken && now.Sub(o.flight.head.launched) >= o.rules.ackTimeout
}
