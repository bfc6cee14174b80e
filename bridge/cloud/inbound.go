package cloud

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// delivery makes the bridge's word of a PUBLISH. settle may be nil.
func delivery(thing mapping.Thing, p *packets.Publish, now time.Time, settle func()) bridge.Delivery {
	d := bridge.Delivery{
		Message: bridge.Message{
			Payload: p.Payload, Received: now, Origin: p.Topic, Retained: p.Retain, Trace: trace(p.Properties),
		},
		Settle: settle,
	}
	if settle == nil {
		d.Settle = func() {}
	}
	a, err := mapping.ParseTopic(mapping.Down, p.Topic)
	if errors.Is(err, mapping.ErrOwnEcho) {
		a, _ = mapping.ParseTopic(mapping.Up, p.Topic)
	}
	if a.Thing != "" && a.Thing != thing {
		err = bridge.Rejectf(bridge.CodeUnexpected, "topic %q: belongs to the Thing %q, this session is %q's", p.Topic, a.Thing, thing)
	}
	switch rejection := (*bridge.Rejection)(nil); {
	case err == nil:
		d.Address = a
		return d
	case errors.Is(err, mapping.ErrOwnEcho), errors.Is(err, mapping.ErrReportAnswer), errors.As(err, &rejection):
		d.Err = err
	default:
		d.Err = bridge.Rejectf(bridge.CodeUnexpected, "%v", err)
	}
	d.Stray = mapping.StrayTail(thing, p.Topic)
	return d
}

func trace(p *packets.Properties) (t bridge.Trace) {
	if p == nil {
		return t
	}
	for _, u := range p.User {
		switch {
		case u.Key == traceParent && t.Parent == "":
			t.Parent = u.Value
		case u.Key == traceState && t.State == "":
			t.State = u.Value
		}
	}
	return t
}

// acks are the messages received on one connection and not yet acknowledged, in the order of receipt,
// which is the order in which MQTT wants the acknowledgements.
type acks struct {
	wake func() // acknowledgements are ready

	mu      sync.Mutex
	pending []*receipt // from first on
	first   int
	byID    map[uint16]*receipt
	direct  []byte // answers that wait for nothing: PUBCOMP
	closed  bool
}

// receipt is one message to acknowledge.
type receipt struct {
	id      uint16
	ack     byte
	settled bool
	void    bool // the broker has forgotten it: an acknowledgement would hit another message
	topic   string
	payload []byte
}

func newAcks(wake func()) *acks { return &acks{wake: wake, byID: map[uint16]*receipt{}} }

// receive notes a message and returns its Settle. It returns nil for a message that is here already:
// some brokers send again what is not acknowledged after a while, on the same connection.
func (a *acks) receive(p *packets.Publish) func() {
	r := &receipt{id: p.PacketID, ack: pubackByte, topic: p.Topic, payload: p.Payload}
	if p.QoS == 2 {
		r.ack = pubrecByte
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.byID[r.id]; old != nil {
		if p.Duplicate && old.topic == r.topic && bytes.Equal(old.payload, r.payload) {
			return nil
		}
		// Our acknowledgement of an earlier copy freed the identifier, and it is in use again.
		old.void = true
	}
	a.byID[r.id] = r
	a.pending = append(a.pending, r)
	return func() { a.settle(r) }
}

// settle marks a message. After the connection was lost nothing happens: the broker brings it again.
func (a *acks) settle(r *receipt) {
	a.mu.Lock()
	r.settled = true
	ready := !a.closed && a.first < len(a.pending) && a.pending[a.first] == r
	a.mu.Unlock()
	if ready {
		a.wake()
	}
}

// unsettled counts the messages that nobody has settled yet.
func (a *acks) unsettled() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.pending[a.first:] {
		if !r.settled {
			n++
		}
	}
	return n
}

// maxDirect is more than a broker can ask for before it has read an answer: one for each packet identifier.
// One that asks for more and reads nothing gets no more.
const maxDirect = 4 << 16

// answer queues a packet that need not wait its turn.
func (a *acks) answer(first byte, id uint16) {
	a.mu.Lock()
	if len(a.direct) < maxDirect {
		a.direct = appendAck(a.direct, first, id)
	}
	a.mu.Unlock()
	a.wake()
}

// appendReady spells every acknowledgement whose turn has come.
func (a *acks) appendReady(b []byte) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	b = append(b, a.direct...)
	a.direct = a.direct[:0]
	for ; a.first < len(a.pending) && a.pending[a.first].settled; a.first++ {
		r := a.pending[a.first]
		a.pending[a.first] = nil
		if r.void {
			continue
		}
		delete(a.byID, r.id)
		b = appendAck(b, r.ack, r.id)
	}
	switch {
	case a.first == len(a.pending):
		a.pending, a.first = a.pending[:0], 0
	case a.first > 1024 && a.first > len(a.pending)/2:
		a.pending = append([]*receipt(nil), a.pending[a.first:]...)
		a.first = 0
	}
	return b
}

// close ends the connection's acknowledgements.
func (a *acks) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
}

// inbox stands between the reader and whoever takes deliveries. It has room for twice Receive Maximum: a
// well-behaved broker sends once that much unacknowledged, as much again may be left of an earlier
// connection. Only beyond that does the reader block, and with it the broker: keep-alive and
// acknowledgement timeouts stand still meanwhile. It takes memory only for what is in it.
type inbox struct {
	limit   int
	blocked atomic.Bool

	mu    sync.Mutex
	items []item
	more  chan struct{} // items is not empty any more
	room  chan struct{} // items is not full any more
	over  bool          // nobody takes any more
	taken []bridge.Delivery
}

type item struct {
	delivery bridge.Delivery
	session  int // counts the broker's sessions; 0: no session brings it again
}

// takeMost is how many deliveries are handed out together.
const takeMost = 16

func newInbox(size int) *inbox {
	return &inbox{limit: 2 * size, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// put hands a delivery on. It blocks while there is no room, and reports false when ctx ended first.
func (b *inbox) put(ctx context.Context, it item) bool {
	for !b.offer(it) {
		b.blocked.Store(true)
		select {
		case <-b.room:
		case <-ctx.Done():
			b.blocked.Store(false)
			return false
		}
		b.blocked.Store(false)
	}
	return true
}

func (b *inbox) offer(it item) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return true
	}
	if len(b.items) >= b.limit {
		return false
	}
	b.items = append(b.items, it)
	if len(b.items) == 1 {
		signal(b.more)
	}
	return true
}

// close lets what comes from now on go by: unacknowledged, so that the broker brings it again to the
// next connection. A reader that waits for room goes on, and finds the PUBACKs behind the message.
func (b *inbox) close() {
	b.mu.Lock()
	b.over = true
	b.mu.Unlock()
	signal(b.room)
}

// take waits for deliveries; see bridge.Source.
func (b *inbox) take(ctx context.Context, most int) []bridge.Delivery {
	for ctx.Err() == nil {
		if out := b.next(most); len(out) > 0 {
			return out
		}
		select {
		case <-b.more:
		case <-ctx.Done():
		}
	}
	return nil
}

func (b *inbox) next(most int) []bridge.Delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.taken)
	b.taken = b.taken[:0]
	n := min(len(b.items), most)
	for i := range n {
		b.taken = append(b.taken, b.items[i].delivery)
	}
	clear(b.items[:n])
	switch {
	case n < len(b.items):
		b.items = b.items[n:]
		signal(b.more)
	case cap(b.items) > 4*takeMost:
		b.items = nil // after a rush
	default:
		b.items = b.items[:0]
	}
	if n > 0 {
		signal(b.room)
	}
	return b.taken
}

// purge forgets what the broker is about to bring again, because the session was kept.
func (b *inbox) purge(session int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := b.items[:0:0]
	for _, it := range b.items {
		if it.session != session {
			kept = append(kept, it)
		}
	}
	b.items = kept
	signal(b.room)
}

// signal wakes whoever waits, or the next to wait.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
