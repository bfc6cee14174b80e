package local

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/journal"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// feed hands out what a lane holds, to one taker, in order. What is stored while it keeps up comes from memory; behind
// that it reads what is kept, as far as there is room.
type feed struct {
	lane       *lane
	thing      mapping.Thing
	ready      tray // handed out and not taken
	settleNext func()
	wake       chan struct{} // of Run, which reads

	// Under the lane's lock.
	running   bool
	reading   bool
	behind    bool      // there may be something newer than place
	tries     int       // in a row that a message could not be read, and may be another time
	place     uint64    // up to this number it has read; less than last while it reads again what it had handed out
	last      uint64    // the newest number that was handed out
	lastAt    time.Time // the latest time of what was handed out; servers of a cluster may differ
	unsettled []lent    // in order
	bytes     int64     // of that
}

// lent is a message that was handed out, or is lost, and is not settled.
type lent struct {
	number  uint64 // 0: the stream does not have it any more, and its settlement changes nothing
	at      time.Time
	bytes   int64
	subject uint64 // its hash; only of commands
	lost    bool
}

// Bounds of what is handed out and not settled.
const (
	feedMessages = 4096      // of a lane
	feedBytes    = 2 << 20   // of a lane
	feedTotal    = 64 << 20  // of all
	readBytes    = 256 << 10 // that are read at once
)

// A message that the disk does not give may come another time.
const (
	readTries = 5
	readRest  = time.Second
)

// Take is bridge.Source.
func (f *feed) Take(ctx context.Context) []bridge.Delivery { return f.ready.take(ctx, takeMost) }

// full reports whether there is no room for one more. The lane's lock is held.
func (f *feed) full() bool {
	return len(f.unsettled) >= f.lane.house.window || f.bytes >= feedBytes || len(f.unsettled) > 0 && f.lane.house.lent.Load() >= feedTotal
}

// roomy reports whether it is worth it to read. The lane's lock is held.
func (f *feed) roomy() bool {
	return len(f.unsettled) <= f.lane.house.window/2 && f.bytes <= feedBytes/2 && (len(f.unsettled) == 0 || f.lane.house.lent.Load() <= feedTotal/2)
}

// enter hands a message out. The lane's lock is held, which keeps the order.
func (f *feed) enter(number uint64, e *entry) {
	h := lent{number: number, at: e.received, bytes: int64(len(e.subject) + len(e.payload) + recordCost)}
	if f.lane.of.kind == mapping.Commands {
		h.subject = f.lane.hash(e.subject)
	}
	f.place, f.last, f.lastAt = number, number, later(f.lastAt, e.received)
	f.unsettled = append(f.unsettled, h)
	f.bytes += h.bytes
	f.lane.house.lent.Add(h.bytes)
	f.ready.put(f.delivery(number, e))
}

func (f *feed) delivery(number uint64, e *entry) bridge.Delivery {
	s := f.lane.house
	d := bridge.Delivery{Settle: f.settleNext, Message: bridge.Message{
		Payload: e.payload, Trace: e.trace, Received: e.received, Origin: e.subject, Stamp: e.stamp, Sequence: s.keeper.sequence(number, e),
	}}
	d.Address, d.Stray, d.Err = addressOf(s.subjects, f.thing, e.subject)
	return d
}

// addressOf reads the address of what programs published, or says why it is none.
func addressOf(s mapping.Subjects, t mapping.Thing, subject string) (a mapping.Address, stray string, err error) {
	if _, a, err = s.Parse(subject); err == nil {
		return a, "", nil
	}
	stray = strings.TrimPrefix(subject, s.Prefix()+"."+string(mapping.SpaceUp)+".")
	return mapping.Address{Thing: t}, stray, bridge.Rejectf(bridge.CodeSubject, "%v", err)
}

// settle is Settle of the oldest unsettled message.
func (f *feed) settle() {
	l := f.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.feed != f { // another one has taken the lane over
		return
	}
	h := f.unsettled[0]
	f.drop()
	if l.pending[h.subject] == h.number {
		delete(l.pending, h.subject)
	}
	if floor := f.pass(h.number); floor > 0 {
		l.settle(floor)
	}
	if f.behind && f.roomy() {
		flow.Signal(f.wake)
	}
}

// pass drops what is lost right behind a settled number, and returns the number up to which all is settled with that. The
// lane's lock is held.
func (f *feed) pass(floor uint64) uint64 {
	for len(f.unsettled) > 0 && f.unsettled[0].lost {
		floor = f.unsettled[0].number
		f.drop()
	}
	return floor
}

// drop takes the oldest out. The lane's lock is held.
func (f *feed) drop() {
	f.release(f.unsettled[0].bytes)
	f.unsettled[0] = lent{}
	if f.unsettled = f.unsettled[1:]; len(f.unsettled) == 0 {
		f.unsettled = nil
	}
}

func (f *feed) release(bytes int64) {
	f.bytes -= bytes
	f.lane.house.lent.Add(-bytes)
}

// end takes the lane away from the feed. The lane's lock is held.
func (f *feed) end() {
	f.release(f.bytes)
	f.unsettled, f.running = nil, false
	f.lane.feed = nil
}

// run has the feed handed what is stored, or not any more.
func (f *feed) run(running bool) {
	l := f.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	f.running, f.behind = running && l.feed == f, f.place < l.stored
}

// begins reports whether there is something to read, and room for it, and nobody reads. Whoever asks has to call read
// then.
func (f *feed) begins() bool {
	f.lane.mu.Lock()
	defer f.lane.mu.Unlock()
	if f.reading || !f.toRead() {
		return false
	}
	f.reading = true
	return true
}

// toRead reports whether to read. The lane's lock is held.
func (f *feed) toRead() bool { return f.running && f.behind && f.roomy() }

// read hands out what is kept, as far as there is room.
func (f *feed) read(ctx context.Context) {
	l := f.lane
	for times := 1; ; times++ {
		l.mu.Lock()
		if f.reading = f.toRead(); !f.reading {
			l.mu.Unlock()
			return
		}
		place, stored := f.place, l.stored
		l.mu.Unlock()
		messages, err := l.house.keeper.read(ctx, l, place, times)
		l.mu.Lock()
		missed, again := f.take(messages, err, place, stored)
		f.reading = again
		l.mu.Unlock()
		if missed.n > 0 {
			l.house.keeper.missed(l, missed)
		}
		if !again {
			time.AfterFunc(readRest, func() { flow.Signal(f.wake) })
			return
		}
	}
}

// take hands out what was read behind a place; stored was the newest number before. again is false when the next message
// could not be read, and may be another time. The lane's lock is held.
func (f *feed) take(messages []laneMessage, err error, place, stored uint64) (missed misses, again bool) {
	l := f.lane
	switch {
	case !f.running || f.place != place: // taken over meanwhile, or it has to begin again
		return missed, true
	case err != nil:
		return missed, false
	case len(messages) == 0 && l.told > place && l.told <= stored && f.tries < readTries: // by a server that lags behind
		f.tries++
		return missed, false
	case len(messages) == 0:
		f.tries, f.place, f.last = 0, stored, max(f.last, stored)
	}
	for _, m := range messages {
		if passes(m.err) && f.tries < readTries {
			f.tries++
			return missed, false
		}
		f.tries = 0
		switch {
		case m.err != nil:
			missed.add(m.number, m.err)
			f.miss(m.number)
		case m.number > f.last:
			f.enter(m.number, m.entry)
		case m.entry.received.After(f.lastAt): // the stream has lost its end and gives the numbers out again
			l.lose(m.number)
			f.enter(m.number, m.entry)
		default: // it was handed out before
			f.place = m.number
			if m.number <= l.floor {
				l.settle(l.floor)
			}
		}
	}
	f.behind = f.place < l.stored
	return missed, true
}

// passes reports whether a message can't be read only now.
func passes(err error) bool {
	var d *journal.Damage
	return err != nil && (!errors.As(err, &d) || d.Err != nil)
}

// miss gives up a message that can't be read. The lane's lock is held.
func (f *feed) miss(number uint64) {
	f.place, f.last = number, number
	for subject, n := range f.lane.pending {
		if n == number {
			delete(f.lane.pending, subject)
		}
	}
	if len(f.unsettled) == 0 {
		f.lane.settle(number)
		return
	}
	f.unsettled = append(f.unsettled, lent{number: number, lost: true})
}

// misses are messages that can't be read.
type misses struct {
	n           int
	first, last uint64
	err         error // of the first
}

func (m *misses) add(number uint64, err error) {
	if m.n++; m.n == 1 {
		m.first, m.err = number, err
	}
	m.last = number
}

// tray is where a queue puts deliveries for its pump. Its bound is what the queue asks for. It takes memory
// only for what is in it.
type tray struct {
	mu    sync.Mutex
	items []bridge.Delivery
	taken []bridge.Delivery
	more  chan struct{} // items is not empty any more
	room  chan struct{} // some were taken
}

// takeMost is how many deliveries are handed out together.
const takeMost = 16

func newTray() tray { return tray{more: make(chan struct{}, 1), room: make(chan struct{}, 1)} }

func (t *tray) put(d bridge.Delivery) {
	t.mu.Lock()
	t.items = append(t.items, d)
	t.mu.Unlock()
	flow.Signal(t.more)
}

func (t *tray) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.items)
}

// take waits for deliveries; see bridge.Source.
func (t *tray) take(ctx context.Context, most int) []bridge.Delivery {
	for ctx.Err() == nil {
		if out := t.next(most); len(out) > 0 {
			flow.Signal(t.room)
			return out
		}
		select {
		case <-t.more:
		case <-ctx.Done():
		}
	}
	return nil
}

func (t *tray) next(most int) []bridge.Delivery {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.taken)
	n := min(len(t.items), most)
	t.taken = append(t.taken[:0], t.items[:n]...)
	clear(t.items[:n])
	if t.items = t.items[n:]; len(t.items) == 0 {
		t.items = nil
	}
	return t.taken
}
