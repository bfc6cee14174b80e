package cloud

import (
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// limits are what the broker allows on one connection.
type limits struct {
	receiveMaximum int  // messages in flight
	packetSize     int  // bytes of a packet; 0: any
	atMostOnce     bool // Maximum QoS 0: no PUBACK ever comes
}

// rules are the Session's own.
type rules struct {
	window     int           // messages of a class handed over and unacknowledged
	ackTimeout time.Duration // how long the oldest message in flight may stay the oldest
	interval   time.Duration // between two messages; 0: no limit
	// delay is the pause before the n-th try, n from 1.
	delay func(n int) time.Duration
}

// outbound decides what is sent next. It holds every message between Send and its completion, in one
// lane a class, and does no I/O, takes no lock and reads no clock: its owner does.
type outbound struct {
	rules  rules
	lanes  [len(mapping.Classes)]lane
	flight queue
	ids    map[uint16]*entry // identifiers in use; nil: a SUBSCRIBE's
	lastID uint16
	lastSq uint64

	limits limits
	up     bool // connected
	open   bool // and subscribed: messages may go
	// suspects are sent one at a time: the broker closed the connection over one of them.
	suspects int
	since    time.Time // since when flight.head has been the oldest
	paceAt   time.Time // when the next message is due, under MaxPublishRate
}

// lane holds the messages of one class in the order of handing over. Those before next are in flight,
// or refused for now while the lane is paused.
type lane struct {
	queue
	class  mapping.Class
	next   *entry
	flying int

	// An episode: the broker refused messages for a passing reason. The lane sends nothing new until
	// all that is in flight is answered, pauses, and begins again from its head with a window of one,
	// doubled by each success.
	window   int  // 0: no episode
	paused   bool // until nothing is in flight and resume has come
	resume   time.Time
	failures int
}

// completion is a message whose fate is decided; err is for its done.
type completion struct {
	entry *entry
	err   error
}

func newOutbound(r rules) *outbound {
	o := &outbound{rules: r, flight: queue{by: byFlight}, ids: map[uint16]*entry{}}
	for _, c := range mapping.Classes {
		o.lanes[c] = lane{queue: queue{by: byHandover}, class: c}
	}
	return o
}

// add puts a message at the end of its class.
func (o *outbound) add(e *entry) {
	l := &o.lanes[e.message.Address.Route().Class]
	e.lane = l
	l.push(e)
	if l.next == nil {
		l.next = e
	}
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
	o.limits, o.up, o.open = lim, true, false
	clear(o.ids)
	for i := range o.lanes {
		l := &o.lanes[i]
		l.next = l.head
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

// begin lets messages go.
func (o *outbound) begin() { o.open = o.up }

// lose ends a connection. Volatile messages are completed; the rest stays, to be sent again. accused
// tells that the broker closed the connection over a packet of ours: what was in flight is sent one at
// a time on the next one, and what is alone in flight when that happens again is refused.
func (o *outbound) lose(accused error) []completion {
	o.up, o.open = false, false
	var out []completion
	if accused != nil {
		if o.suspects > 0 && o.flight.len == 1 {
			e := o.flight.head
			o.drop(e)
			o.suspects--
			out = append(out, completion{e, bridge.Rejectf(bridge.CodeRefused,
				"topic %q: the broker closes the connection over this message: %v", e.topic, accused)})
		} else {
			o.suspects = o.flight.len
		}
	}
	for o.flight.len > 0 {
		o.land(o.flight.head)
	}
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

// land takes a message out of flight; it stays in its lane.
func (o *outbound) land(e *entry) {
	if !e.flying {
		return
	}
	e.flying = false
	e.lane.flying--
	o.flight.remove(e)
}

// drop takes a message out altogether.
func (o *outbound) drop(e *entry) {
	o.land(e)
	if e.id != 0 {
		delete(o.ids, e.id)
	}
	if e.lane.next == e {
		e.lane.next = e.lane.after(e)
	}
	e.lane.remove(e)
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
	if err := o.unfit(e, now); err != nil {
		o.drop(e)
		return step{drop: completion{e, err}}
	}
	most := o.limits.receiveMaximum
	if o.suspects > 0 {
		most = 1
	}
	if o.flight.len >= most {
		return step{}
	}
	if o.rules.interval > 0 {
		if due := o.paceAt.Add(-paceSlack); now.Before(due) {
			return step{wake: due}
		}
	}
	if !o.limits.atMostOnce && e.id == 0 {
		if e.id = o.reserve(e); e.id == 0 {
			return step{} // every identifier is in use: an acknowledgement frees one
		}
	}
	o.launch(e, now)
	return step{send: e}
}

// paceSlack lets a high rate go out in small bursts rather than with a timer a message.
const paceSlack = 10 * time.Millisecond

func (o *outbound) launch(e *entry, now time.Time) {
	if e.seq == 0 {
		o.lastSq++
		e.seq = o.lastSq
	}
	if o.flight.len == 0 {
		o.since = now
	}
	if o.rules.interval > 0 {
		if o.paceAt.Before(now) {
			o.paceAt = now
		}
		o.paceAt = o.paceAt.Add(o.rules.interval)
	}
	e.flying = true
	e.lane.flying++
	e.lane.next = e.lane.after(e)
	o.flight.push(e)
}

// choose picks the message to go next: control before telemetry, except that what is sent again under
// its identifier keeps the order of its first sending.
func (o *outbound) choose(now time.Time) (e *entry, wake time.Time) {
	for i := range o.lanes {
		next, at := o.lanes[i].ready(now)
		if !at.IsZero() && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
		switch {
		case next == nil:
		case e == nil:
			e = next
		case e.dup && next.dup && next.seq < e.seq:
			e = next
		}
	}
	return e, wake
}

// ready returns the lane's next message, or when it may have one.
func (l *lane) ready(now time.Time) (*entry, time.Time) {
	if l.paused {
		if l.flying > 0 {
			return nil, time.Time{}
		}
		if now.Before(l.resume) {
			return nil, l.resume
		}
		l.paused, l.window, l.next = false, 1, l.head
	}
	if l.window > 0 && l.flying >= l.window {
		return nil, time.Time{}
	}
	return l.next, time.Time{}
}

// unfit tells why a message can't be sent on this connection, or any more.
func (o *outbound) unfit(e *entry, now time.Time) error {
	if m := &e.message; !m.Expires.IsZero() && now.After(m.Expires) {
		return bridge.Rejectf(bridge.CodeExpired, "topic %q: older than %v, not sent any more", e.topic, m.Expires.Sub(m.Received))
	}
	if size := publishSize(e); o.limits.packetSize > 0 && size > o.limits.packetSize {
		return bridge.Rejectf(bridge.CodeTooLarge, "topic %q: the packet has %d bytes, the broker takes at most %d",
			e.topic, size, o.limits.packetSize)
	}
	return nil
}

// acked takes a PUBACK. done is set when it completes its message; began when it begins an episode of
// retrying in the message's class. An identifier that is not in use is ignored.
func (o *outbound) acked(id uint16, code byte, now time.Time) (done *completion, began *entry) {
	e := o.ids[id]
	if e == nil {
		return nil, nil
	}
	if e == o.flight.head {
		o.since = now
	}
	if o.suspects > 0 {
		o.suspects--
	}
	switch pubackVerdict(code) {
	case taken:
		o.drop(e)
		e.lane.succeed(o.rules.window)
		return &completion{entry: e}, nil
	case refused:
		o.drop(e)
		e.lane.succeed(o.rules.window)
		return &completion{e, refusal(e.topic, code)}, nil
	}
	delete(o.ids, id)
	o.land(e)
	e.forget()
	if e.lane.fail(now, o.rules.delay) {
		return nil, e
	}
	return nil, nil
}

// fail begins an episode, or goes back to its begin. It reports whether there was none.
func (l *lane) fail(now time.Time, delay func(int) time.Duration) bool {
	first := l.window == 0
	if !l.paused {
		l.failures++
		l.paused, l.window, l.resume = true, 1, now.Add(delay(l.failures))
	}
	return first
}

// succeed widens the window of an episode until it is the usual one again.
func (l *lane) succeed(usual int) {
	if l.window == 0 || l.paused {
		return
	}
	if l.window *= 2; l.window >= usual {
		l.window, l.failures = 0, 0
	}
}

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
	return o.flight.len > 0 && now.Sub(o.since) >= o.rules.ackTimeout
}

// reserve takes a free identifier for e; 0: none is free.
func (o *outbound) reserve(e *entry) uint16 {
	for range 1<<16 - 1 {
		if o.lastID++; o.lastID == 0 {
			o.lastID = 1
		}
		if _, used := o.ids[o.lastID]; !used {
			o.ids[o.lastID] = e
			return o.lastID
		}
	}
	return 0
}

// reserveLast takes the last free identifier, for a SUBSCRIBE; 0: none is free. Some brokers refuse one that
// equals the identifier of a message that they have sent themselves, and those count from 1.
func (o *outbound) reserveLast() uint16 {
	for id := uint16(1<<16 - 1); id > 0; id-- {
		if _, used := o.ids[id]; !used {
			o.ids[id] = nil
			return id
		}
	}
	return 0
}

// release frees a SUBSCRIBE's identifier.
func (o *outbound) release(id uint16) {
	if e, used := o.ids[id]; used && e == nil {
		delete(o.ids, id)
	}
}
