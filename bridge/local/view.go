package local

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// view is a stream that is written behind the journal: see views.
//
// It stores in groups, one after the other, and tries a group until the journal has it: that keeps the order through every
// failure. While a group is synced the next one gathers.
type view struct {
	of     *views
	kind   byte   // in the journal
	name   string // the stream's
	public string // subject of all that it holds
	urgent bool   // it may use the journal's reserve
	intake chan *charge
	tries  tries

	// Of run's goroutine.
	next *charge // had no room in the last group

	// Of the goroutine that writes into the streams.
	stream jetstream.Stream // asked itself, as reads that any replica answers take no wildcards
	puts   tries
	newest uint64 // number of the newest record that it has
	at     uint64 // sequence of the message when it was looked at
	last   uint64 // its last sequence
	out    []byte // commands that are to be written to it
	head   []byte // room to print one
}

// charge is a message that is on its way into the journal, and then into a stream.
type charge struct {
	view   *view
	body   []byte         // of the record
	record *bridge.Record // of an execution; nil: none
	number uint64         // of the record
	done   func(error)    // the journal has it, or it is refused
	stored func()         // the stream has it, or it is refused; may be nil
}

// The kinds of view records. They are on the disk.
const (
	viewDown byte = 1
	viewDead byte = 2
)

// viewRoom is what a group needs for a message beside its body, and that of its record.
const viewRoom = 2*recordCost + 256

// cost bounds what a charge takes in a group.
func (c *charge) cost() int64 {
	n := int64(len(c.body)) + viewRoom
	if c.record != nil {
		n += int64(len(c.record.Key)+len(c.record.Value)) + recordHead
	}
	return n
}

// send is bridge.Sink.Send for a message of the stream.
func (v *view) send(ctx context.Context, c *charge, subject string, headers wire.Headers, payload []byte) error {
	c.view = v
	if n := headers.Size() + len(payload) + groupRoom; int64(n) > v.of.nc.MaxPayload() {
		c.done(bridge.Rejectf(bridge.CodeTooLarge, "the message has %d bytes with its headers, NATS takes %d", n, v.of.nc.MaxPayload()))
		return nil
	}
	c.body = encodeView(v.kind, subject, headers, payload)
	if most := v.of.spool.journal.LargestGroup(); c.cost() > most {
		c.done(bridge.Rejectf(bridge.CodeTooLarge, "the message has %d bytes with what is kept of it, the journal takes %d on this disk", c.cost(), most))
		return nil
	}
	select {
	case v.intake <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-v.of.ended:
		return journal.ErrClosed
	}
}

// run stores one group after the other, until the views end.
func (v *view) run() {
	var group []*charge
	for {
		if group = v.gather(group[:0]); len(group) == 0 || !v.of.room() || !v.store(group) {
			return
		}
		clear(group)
	}
}

// gather waits for a charge, and adds what waits already.
func (v *view) gather(group []*charge) []*charge {
	first := v.next
	if v.next = nil; first == nil {
		select {
		case <-v.of.ended:
			return nil
		case first = <-v.intake:
		}
	}
	group = append(group, first)
	for cost, most := first.cost(), min(v.of.spool.journal.LargestGroup(), streams.GroupBytes); len(group) < streams.GroupMax; {
		select {
		case c := <-v.intake:
			if cost += c.cost(); cost > most {
				v.next = c
				return group
			}
			group = append(group, c)
		default:
			return group
		}
	}
	return group
}

// store tries until the journal has the group, and tells everybody. It returns false when the views end first.
func (v *view) store(group []*charge) bool {
	for {
		err := v.append(group)
		if err == nil {
			v.tries.succeeded()
			for _, c := range group {
				c.done(nil)
			}
			return true
		}
		if errors.Is(err, journal.ErrClosed) {
			return false
		}
		v.of.spool.fails(err)
		if errors.Is(err, journal.ErrFull) {
			flow.Signal(v.of.much) // what the streams have need not wait for its time
		}
		if !v.tries.pause(v.of.ended, err) {
			return false
		}
	}
}

// append waits until the journal has the group.
func (v *view) append(group []*charge) error {
	g, records := &journal.Group{Urgent: v.urgent}, uint64(0)
	for _, c := range group {
		c.number = records // and the first number
		g.View(c.body)
		if records++; c.record != nil {
			g.Put(v.of.kept.key(c.record.Key), encodeRecord(time.Now(), c.record.Value))
			records++
		}
	}
	end := make(chan error, 1)
	err := v.of.spool.journal.Enqueue(context.Background(), g, func(r journal.Receipt, err error) {
		if err == nil { // here, as this is called in the order of the numbers
			for _, c := range group {
				c.number += r.First
			}
			v.of.enqueue(group)
		}
		end <- err
	})
	if err == nil {
		err = <-end
	}
	if err != nil {
		return err
	}
	for _, c := range group {
		if c.record != nil {
			v.of.kept.noted(c.record.Key)
		}
	}
	return nil
}

// viewSink is the sink of what the cloud sends.
type viewSink struct {
	view     *view
	subjects mapping.Subjects
	history  *history
}

var (
	_ bridge.Sink   = viewSink{}
	_ bridge.Keeper = viewSink{}
)

// Send is bridge.Sink.
func (s viewSink) Send(ctx context.Context, m bridge.Message, done func(error)) error {
	return s.send(ctx, m, nil, done)
}

// SendKept is bridge.Keeper.
func (s viewSink) SendKept(ctx context.Context, m bridge.Message, r bridge.Record, done func(error)) error {
	return s.send(ctx, m, &r, done)
}

func (s viewSink) send(ctx context.Context, m bridge.Message, r *bridge.Record, done func(error)) error {
	var room [wire.UsualHeaders]wire.Header
	headers := wire.Headers(room[:0])
	headers.StampDown(m)
	subject := s.subjects.Store(mapping.SpaceDown, m.Address)
	s.history.stored(len(subject))
	return s.view.send(ctx, &charge{record: r, done: done}, subject, headers, m.Payload)
}
