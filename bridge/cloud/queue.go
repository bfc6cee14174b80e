package cloud

import "fleetbridge/bridge"

// entry is one message handed over and not yet acknowledged.
type entry struct {
	message  bridge.Message
	topic    string
	volatile bool // worth nothing after a lost connection
	done     func(error)

	lane   *lane
	seq    uint64 // order of sending; kept for a resend under the same identifier
	id     uint16 // packet identifier, 0: none
	dup    bool   // the broker may have it already
	flying bool   // sent on this connection, unanswered

	at [2]struct{ prev, next *entry }
}

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
