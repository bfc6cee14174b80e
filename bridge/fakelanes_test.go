package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"fleetbridge/mapping"
)

// outbox is Lanes in memory. Used by itself it is the Outbox that keeps what the bridge writes.
type outbox struct {
	things []mapping.Thing // nil: all
	most   int             // bytes; 0: no limit

	mu      sync.Mutex
	sent    []Message // stored and not settled, in order
	fail    error     // of what is to be stored, while set
	number  uint64    // of the last message
	before  uint64    // how many had come and gone at the start
	ids     map[string]bool
	owners  map[mapping.Thing]*owner
	changed chan struct{} // closed at the next change
}

var _ Lanes = (*outbox)(nil)

// wake tells of a change. The lock is held.
func (o *outbox) wake() {
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
}

// next is closed at the next change. The lock is held.
func (o *outbox) next() <-chan struct{} {
	if o.changed == nil {
		o.changed = make(chan struct{})
	}
	return o.changed
}

func (o *outbox) store(m Message, id string) (Receipt, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	bytes := len(m.Payload)
	for _, other := range o.sent {
		bytes += len(other.Payload)
	}
	id = fmt.Sprint(m.Address, id)
	switch {
	case o.fail != nil:
		return Receipt{}, o.fail
	case o.things != nil && !slices.Contains(o.things, m.Address.Thing):
		return Receipt{}, fmt.Errorf("nobody takes %+v", m.Address)
	case o.most > 0 && bytes > o.most:
		return Receipt{}, errors.New("maximum bytes exceeded")
	case o.ids[id]:
		return Receipt{"FLEETS_UP_CONTROL", o.number}, nil
	}
	if id != fmt.Sprint(m.Address, "") {
		o.ids[id] = true
	}
	o.number++
	m.Sequence, m.Received, m.Payload = o.number, time.Now(), slices.Clone(m.Payload)
	o.sent = append(o.sent, m)
	o.wake()
	return Receipt{"FLEETS_UP_CONTROL", o.number}, nil
}

func (o *outbox) Enqueue(_ context.Context, a mapping.Address, payload []byte, t Trace) (Receipt, error) {
	return o.store(Message{Address: a, Payload: payload, Trace: t}, "")
}

func (o *outbox) Pending(_ context.Context, a mapping.Address) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.sent, func(m Message) bool { return m.Address == a }), nil
}

func (o *outbox) payloads() (out []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.sent {
		out = append(out, string(m.Payload))
	}
	return out
}

func (o *outbox) SetThings(_ context.Context, things []mapping.Thing) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.things = things
	return nil
}

func (o *outbox) Queued(ctx context.Context) (map[mapping.Thing]uint64, error) {
	o.mu.Lock()
	things := o.things
	o.mu.Unlock()
	return o.Left(ctx, things)
}

func (o *outbox) Left(_ context.Context, things []mapping.Thing) (map[mapping.Thing]uint64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[mapping.Thing]uint64{}
	for _, m := range o.sent {
		if slices.Contains(things, m.Address.Thing) {
			out[m.Address.Thing]++
		}
	}
	return out, nil
}

func (o *outbox) Accepted(context.Context) (uint64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.number - o.before, nil
}

func (o *outbox) TakeOver(_ context.Context, t mapping.Thing) (ThingLanes, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if before := o.owners[t]; before != nil {
		before.gone = true
	}
	if o.owners == nil {
		o.owners = map[mapping.Thing]*owner{}
	}
	w := &owner{from: o, thing: t}
	for k := range w.lanes {
		w.lanes[k] = fakeLane{owner: w, kind: mapping.Kind(k)}
	}
	o.owners[t] = w
	o.wake()
	return w, nil
}

// owner has the lanes of a Thing. Its fields have the outbox's lock.
type owner struct {
	from          *outbox
	thing         mapping.Thing
	lanes         [len(mapping.Kinds)]fakeLane
	running, gone bool
}

func (w *owner) Lane(k mapping.Kind) Source { return &w.lanes[k] }

func (w *owner) Run(ctx context.Context) error {
	w.from.mu.Lock()
	defer w.from.mu.Unlock()
	w.running = true
	defer func() { w.running = false }()
	w.from.wake()
	for !w.gone && ctx.Err() == nil {
		changed := w.from.next()
		w.from.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		w.from.mu.Lock()
	}
	if w.gone {
		return ErrTakenOver
	}
	return nil
}

func (w *owner) Flush(context.Context) error { return nil }

func (w *owner) Oldest() (at time.Time, waits bool) {
	w.from.mu.Lock()
	defer w.from.mu.Unlock()
	for _, l := range w.lanes {
		if len(l.open) > 0 && (!waits || l.open[0].Received.Before(at)) {
			at, waits = l.open[0].Received, true
		}
	}
	return at, waits
}

func (w *owner) Remove(context.Context) error {
	w.from.mu.Lock()
	defer w.from.mu.Unlock()
	if w.from.owners[w.thing] == w {
		delete(w.from.owners, w.thing)
	}
	w.gone = true
	return nil
}

// fakeLane is a Source.
type fakeLane struct {
	owner *owner
	kind  mapping.Kind
	last  uint64    // the newest that was handed out
	open  []Message // handed out and not settled
}

func (l *fakeLane) Take(ctx context.Context) (out []Delivery) {
	o := l.owner.from
	for ctx.Err() == nil {
		o.mu.Lock()
		for _, m := range o.sent {
			mine := m.Address.Thing == l.owner.thing && m.Address.Route().Kind == l.kind && m.Sequence > l.last
			if mine && l.owner.running && !l.owner.gone && len(out) < 16 && len(l.open) < 256 {
				l.last, l.open = m.Sequence, append(l.open, m)
				out = append(out, Delivery{Message: m, Settle: l.settle})
			}
		}
		changed := o.next()
		o.mu.Unlock()
		if len(out) > 0 {
			return out
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil
}

func (l *fakeLane) settle() {
	o := l.owner.from
	o.mu.Lock()
	defer o.mu.Unlock()
	number := l.open[0].Sequence
	l.open = l.open[1:]
	if !l.owner.gone {
		o.sent = slices.DeleteFunc(o.sent, func(m Message) bool { return m.Sequence == number })
	}
	o.wake()
}
