package cloud

import (
	"time"

	"fleetbridge/bridge"
)

// entry is one message handed over and not yet acknowledged.
type entry struct {
	message  bridge.Message
	topic    string
	volatile bool // a question: not sent again after a lost connection
	done     func(error)

	lane   *lane
	turn   uint64 // order of handing over, among all kinds
	seq    uint64 // order of sending; kept for a resend under the same identifier
	id     uint16 // packet identifier, 0: none
	dup    bool   // the broker may have it already
	flying bool   // sent on this connection, unanswered
	launch uint64 // number of its last sending, among all

	// What is known about its refusals.
	tries     int    // refusals; after the first, only those when it was alone in flight or the first of its kind
	refused   uint64 // the launch that was refused last
	refusedAt time.Time
	witnessed bool // others of its kind were taken between two refusals
	proven    bool // one that was in flight with it, and sent after it, was taken
	why       *refusal
	suspect   bool          // it may be the reason that connections end
	calm      time.Duration // how long a connection must live before it is sent
	swallowed int           // connections on which it was not acknowledged, and others were
	vanishes  bool          // a connection stalled because of its size
	halves    int           // connections that stalled when a part of it had been sent

	launched   time.Time // when it was taken for sending
	passed     bool      // a PINGREQ behind it was answered
	start, end int64     // bytes written on the connection before and after it; end is 0 while it is being written

	at [2]struct{ prev, next *entry }
}

// renew builds the payload again while refusals of its kind are looked into: a merged report may be refused only because of
// what another refused one has brought into it. A message that is sent again under its identifier must stay the same.
func (e *entry) renew() {
	if e.message.Again != nil && e.id == 0 && (e.tries > 0 || e.lane.trial.window > 0) {
		e.message.Payload = e.message.Again()
	}
}

// endsConnections reports whether a connection has ended because of it, while it was alone in flight.
func (e *entry) endsConnections() bool { return e.tries > 0 && e.why.fatal }

// The two queues that an entry stands in.
const (
	byHandover = iota // its lane, until it is completed
	byFlight          // everything in flight, in the order of sending
)

// queue is a linked list through the entries themselves: an acknowledgement out of order takes its
// entry from the middle without a search.
type queue struct {
	by         int
	head, tail *entry
	len        int
}

func (q *queue) push(e *entry) {
	e.at[q.by].prev, e.at[q.by].next = q.tail, nil
	if q.tail == nil {
		q.head = e
	} else {
		q.tail.at[q.by].next = e
	}
	q.tail = e
	q.len++
}

func (q *queue) remove(e *entry) {
	prev, next := e.at[q.by].prev, e.at[q.by].next
	if prev == nil {
		q.head = next
	} else {
		prev.at[q.by].next = next
	}
	if next == nil {
		q.tail = prev
	} else {
		next.at[q.by].prev = prev
	}
	e.at[q.by].prev, e.at[q.by].next = nil, nil
	q.len--
}

// after returns the entry behind e.
func (q *queue) after(e *entry) *entry { return e.at[q.by].next }
