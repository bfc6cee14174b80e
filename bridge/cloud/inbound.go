package cloud

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// delivery makes a bridge.Delivery of a PUBLISH.
func delivery(thing mapping.Thing, p *arrival, now time.Time, settle func()) bridge.Delivery {
	d := bridge.Delivery{
		Message: bridge.Message{
			Payload: p.payload, Received: now, Origin: p.topic, Retained: p.retain(), Trace: p.trace,
		},
		Settle: settle,
	}
	if len(p.payload) < p.size {
		d.Size = p.size
	}
	a, err := mapping.ParseTopic(mapping.Down, p.topic)
	if errors.Is(err, mapping.ErrOwnEcho) {
		a, _ = mapping.ParseTopic(mapping.Up, p.topic)
	}
	if a.Thing != "" && a.Thing != thing {
		err = bridge.Rejectf(bridge.CodeUnexpected, "topic %q: belongs to the Thing %q, this session is %q's", p.topic, a.Thing, thing)
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
	d.Stray = mapping.StrayTail(thing, p.topic)
	return d
}

// footprint is about how many bytes a delivery takes in memory until it is settled.
func footprint(d *bridge.Delivery) int {
	n := overhead + len(d.Payload) + len(d.Origin) + len(d.Stray) + len(d.Trace.Parent) + len(d.Trace.State)
	if d.Err != nil {
		n += len(d.Err.Error())
	}
	return n
}

// overhead is what a delivery takes beside its texts: itself, its receipt, its place in the inbox.
const overhead = 768

// acks are the messages received on one connection and not yet acknowledged, in the order of receipt,
// which is the order in which MQTT wants the acknowledgements.
type acks struct {
	wake func() // acknowledgements are ready

	mu      sync.Mutex
	pending []*receipt // from first on
	first   int
	settled int // how many of them are, from first on
	byID    map[uint16]*receipt
	direct  []byte // answers that wait for nothing: PUBCOMP
	closed  bool
}

// receipt is one message to acknowledge.
type receipt struct {
	id      uint16
	ack     byte
	void    bool // the broker has forgotten it: an acknowledgement would hit another message
	topic   string
	payload []byte
	size    int
}

func newAcks(wake func()) *acks { return &acks{wake: wake, byID: map[uint16]*receipt{}} }

// receive notes a message. It reports false for one that is here already: some brokers send again what is not
// acknowledged after a while, on the same connection.
func (a *acks) receive(p *arrival) bool {
	r := &receipt{id: p.id, ack: pubackByte, topic: p.topic, payload: p.payload, size: p.size}
	if p.qos() == 2 {
		r.ack = pubrecByte
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.byID[r.id]; old != nil {
		if p.dup() && old.topic == r.topic && old.size == r.size && bytes.Equal(old.payload, r.payload) {
			return false
		}
		// Our acknowledgement of an earlier copy freed the identifier, and it is in use again.
		old.void = true
	}
	a.byID[r.id] = r
	a.pending = append(a.pending, r)
	return true
}

// settle is Settle of the oldest unsettled message. After the connection was lost nothing happens: the broker brings
// it again.
func (a *acks) settle() {
	a.mu.Lock()
	a.settled++
	ready := !a.closed && a.settled == 1
	a.mu.Unlock()
	if ready {
		a.wake()
	}
}

// unsettled counts the messages that nobody has settled yet.
func (a *acks) unsettled() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.pending) - a.first - a.settled
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
	for ; a.settled > 0; a.first, a.settled = a.first+1, a.settled-1 {
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

// inbox stands between the reader and whoever takes deliveries. Before the reader takes a message from the
// socket, it gets room for it from the budget of all Things. The room is given back when the message is
// settled or forgotten. While there is no room nothing is read, and the broker keeps what it has:
// keep-alive and acknowledgement timeouts stand still meanwhile.
type inbox struct {
	memory  *account
	blocked atomic.Bool

	mu    sync.Mutex
	items []item // from first on
	first int
	more  chan struct{} // there are items again
	over  bool          // nobody takes any more
	taken []bridge.Delivery
}

type item struct {
	delivery bridge.Delivery
	session  int // number of the broker's session; 0: no session brings it again
	held     *holding
}

// holding is the room in the budget that one message has.
type holding struct {
	memory *account
	bytes  int
	gone   atomic.Bool
}

// drop gives the room back, once.
func (h *holding) drop() {
	if !h.gone.Swap(true) {
		h.memory.release(h.bytes)
	}
}

// resize makes the holding as large as what is held.
func (h *holding) resize(bytes int) {
	h.memory.release(h.bytes - bytes)
	h.bytes = bytes
}

// takeMost is how many deliveries are handed out together.
const takeMost = 16

func newInbox(b *Budget) *inbox {
	return &inbox{memory: b.account(), more: make(chan struct{}, 1)}
}

// reserve waits for room for n bytes. It returns nil when ctx ended first.
func (b *inbox) reserve(ctx context.Context, n int) *holding {
	if !b.memory.try(n) {
		b.blocked.Store(true)
		defer b.blocked.Store(false)
		if !b.memory.acquire(ctx, n) {
			return nil
		}
	}
	return &holding{memory: b.memory, bytes: n}
}

// put hands a delivery on.
func (b *inbox) put(it item) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		it.held.drop()
		return
	}
	if len(b.items) == cap(b.items) && b.first > len(b.items)/2 { // in the place of more memory
		n := copy(b.items, b.items[b.first:])
		clear(b.items[n:])
		b.items, b.first = b.items[:n], 0
	}
	b.items = append(b.items, it)
	if len(b.items) == b.first+1 {
		flow.Signal(b.more)
	}
}

// close drops what comes from now on, unacknowledged, so the broker brings it again on the next connection. A reader that
// waits for room goes on, and finds the PUBACKs behind the message.
func (b *inbox) close() {
	b.mu.Lock()
	b.over = true
	b.mu.Unlock()
	b.memory.lift()
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
	next := b.items[b.first:]
	next = next[:min(len(next), most)]
	for i := range next {
		b.taken = append(b.taken, next[i].delivery)
	}
	clear(next)
	switch b.first += len(next); {
	case b.first < len(b.items):
		flow.Signal(b.more)
	case cap(b.items) > 4*takeMost:
		b.items, b.first = nil, 0 // after a rush
	default:
		b.items, b.first = b.items[:0], 0
	}
	return b.taken
}

// purge forgets what the broker is about to bring again, because the session was kept.
func (b *inbox) purge(session int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := b.items[:0:0]
	for _, it := range b.items[b.first:] {
		if it.session == session {
			it.held.drop()
			continue
		}
		kept = append(kept, it)
	}
	b.items, b.first = kept, 0
}
