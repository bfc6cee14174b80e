package local

import (
	"context"
	"errors"
	"strings"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/journal"
	"fleetbridge/mapping"
)

// feed hands out what a lane holds, to one taker, in order. What is stored while it keeps up comes from memory; behind
// that it reads the journal, as far as there is room.
type feed struct {
	lane       *lane
	thing      mapping.Thing
	ready      tray // handed out and not taken
	settleNext func()
	wake       chan struct{} // of Run, which reads

	// Of Run's goroutine.
	tries int // in a row that a message could not be read, and may be another time

	// Under the lane's lock.
	running   bool
	behind    bool   // the journal has something newer than last
	last      uint64 // the newest number that was handed out
	unsettled []lent // in order
	bytes     int64  // of that
}

// lent is a message that was handed out, or is lost, and is not settled.
type lent struct {
	number  uint64
	at      time.Time
	bytes   int64
	subject string // only of commands
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
	return len(f.unsettled) >= f.lane.spool.cfg.window() || f.bytes >= feedBytes || len(f.unsettled) > 0 && f.lane.spool.lent.Load() >= feedTotal
}

// roomy reports whether it is worth it to read. The lane's lock is held.
func (f *feed) roomy() bool {
	return len(f.unsettled) <= f.lane.spool.cfg.window()/2 && f.bytes <= feedBytes/2 && (len(f.unsettled) == 0 || f.lane.spool.lent.Load() <= feedTotal/2)
}

// enter hands a message out. The lane's lock is held, which keeps the order.
func (f *feed) enter(number uint64, e *entry) {
	h := lent{number: number, at: e.received, bytes: int64(len(e.subject) + len(e.payload) + recordCost)}
	if f.lane.of.kind == mapping.Commands {
		h.subject = e.subject
	}
	f.last = number
	f.unsettled = append(f.unsettled, h)
	f.bytes += h.bytes
	f.lane.spool.lent.Add(h.bytes)
	f.ready.put(f.delivery(number, e))
}

func (f *feed) delivery(number uint64, e *entry) bridge.Delivery {
	s := f.lane.spool
	d := bridge.Delivery{Settle: f.settleNext, Message: bridge.Message{
		Payload: e.payload, Trace: e.trace, Received: e.received, Origin: e.subject, Stamp: e.stamp, Sequence: s.sequence(number, e),
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
	l.settle(f.pass(h.number))
	if f.behind && f.roomy() {
		signal(f.wake)
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
	f.lane.spool.lent.Add(-bytes)
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
	f.running, f.behind = running && l.feed == f, f.last < l.stored
}

// read hands out what the journal holds, as far as there is room.
func (f *feed) read() {
	l := f.lane
	for {
		l.mu.Lock()
		if !f.running || !f.behind || !f.roomy() {
			l.mu.Unlock()
			return
		}
		after, stored := f.last, l.stored
		l.mu.Unlock()
		messages := l.spool.journal.Read(l.key, after, readBytes)
		l.mu.Lock()
		missed, again := f.take(messages, stored)
		l.mu.Unlock()
		missed.say(l)
		if !again {
			time.AfterFunc(readRest, func() { signal(f.wake) })
			return
		}
	}
}

// take hands out what was read; stored was the newest number before. again is false when the disk has not given the next
// one, and may another time. The lane's lock is held.
func (f *feed) take(messages []journal.Message, stored uint64) (missed misses, again bool) {
	if !f.running { // taken over meanwhile
		return missed, true
	}
	if len(messages) == 0 {
		f.last = max(f.last, stored)
	}
	for _, m := range messages {
		if passes(m.Err) && f.tries < readTries {
			f.tries++
			return missed, false
		}
		f.tries = 0
		if m.Err != nil {
			missed.add(m)
			f.miss(m.Number)
			continue
		}
		e, err := decodeEntry(m.Body)
		if err != nil { // it becomes a dead letter as it is
			e = entry{subject: f.lane.key, received: time.Now(), payload: m.Body}
		}
		f.enter(m.Number, &e)
	}
	f.behind = f.last < f.lane.stored
	return missed, true
}

// passes reports whether a message can't be read only now.
func passes(err error) bool {
	var d *journal.Damage
	return err != nil && (!errors.As(err, &d) || d.Err != nil)
}

// miss gives up a message that can't be read. The lane's lock is held.
func (f *feed) miss(number uint64) {
	f.last = number
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

func (m *misses) add(message journal.Message) {
	if m.n++; m.n == 1 {
		m.first, m.err = message.Number, message.Err
	}
	m.last = message.Number
}

func (m *misses) say(l *lane) {
	if m.n == 0 {
		return
	}
	s := l.spool
	s.log.Error("stored messages can't be read any more: their records on the disk are damaged; they are lost",
		"thing", l.thing(), "queue", l.of.kind.String(), "journal", s.dir, "messages", m.n, "from", m.first, "to", m.last, "error", m.err)
}
