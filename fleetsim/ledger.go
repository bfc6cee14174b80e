package fleetsim

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Ledger numbers every message as it is handed in, hears what becomes of it, and reconciles at the end.
// It keeps a few bits a message. Messages are numbered by lane, from 1; in a lane they shall arrive in
// the order of their numbers. Its methods may be called from any goroutine.
//
// The lanes of a bridge are "up/{thing}/control", "up/{thing}/telemetry" and "down/{thing}".
type Ledger struct {
	monitor
	lanes map[string]*ledgerLane
	open  int // accepted, and neither arrived nor dead
}

// ledgerLane is what is known of one lane's messages. Bit n stands for message n.
type ledgerLane struct {
	last                            uint64 // number given out
	highest                         uint64 // first arrival so far
	accepted, arrived, died, queued bits
	duplicated, swapped, strange    int
}

// NewLedger makes an empty one.
func NewLedger() *Ledger { return &Ledger{lanes: map[string]*ledgerLane{}} }

// lane returns a lane; the lock must be held.
func (l *Ledger) lane(name string) *ledgerLane {
	if l.lanes[name] == nil {
		l.lanes[name] = &ledgerLane{}
	}
	return l.lanes[name]
}

// Next is the number of a message that is about to be handed in.
func (l *Ledger) Next(lane string) uint64 {
	l.Lock()
	defer l.Unlock()
	x := l.lane(lane)
	x.last++
	return x.last
}

// Accepted notes that who handed the message in was told that it is taken care of, by a PubAck or a
// PUBACK. From now on it must arrive, or be found in the dead letters.
func (l *Ledger) Accepted(lane string, n uint64) {
	l.change(lane, n, func(x *ledgerLane) {
		if x.accepted.set(n) && !x.over(n) {
			l.open++
		}
	})
}

// Arrived notes that the message was delivered at the other side. It may come before Accepted.
func (l *Ledger) Arrived(lane string, n uint64) {
	l.change(lane, n, func(x *ledgerLane) {
		l.end(x, n)
		if !x.arrived.set(n) {
			x.duplicated++
			return
		}
		if n < x.highest {
			x.swapped++
		}
		x.highest = max(x.highest, n)
	})
}

// Died notes that the message was found in the dead letters.
func (l *Ledger) Died(lane string, n uint64) {
	l.change(lane, n, func(x *ledgerLane) {
		l.end(x, n)
		if !x.died.set(n) {
			x.duplicated++
		}
	})
}

// Queued notes that the message was found in the store at the end, still on its way.
func (l *Ledger) Queued(lane string, n uint64) {
	l.change(lane, n, func(x *ledgerLane) { x.queued.set(n) })
}

// change notes something about a message that was given out.
func (l *Ledger) change(lane string, n uint64, f func(*ledgerLane)) {
	l.Lock()
	defer l.Unlock()
	x := l.lane(lane)
	if n == 0 || n > x.last {
		x.strange++
	} else {
		f(x)
	}
	if l.open == 0 {
		l.notify()
	}
}

// end takes a message off the open ones, once.
func (l *Ledger) end(x *ledgerLane, n uint64) {
	if x.accepted.has(n) && !x.over(n) {
		l.open--
	}
}

func (x *ledgerLane) over(n uint64) bool { return x.arrived.has(n) || x.died.has(n) }

// Settled waits until every message accepted so far has arrived or died. When ctx ends first, the
// error names the first ones that are missing.
func (l *Ledger) Settled(ctx context.Context) error {
	_, err := await(ctx, &l.monitor, "the ledger to be settled", func() (struct{}, bool) { return struct{}{}, l.open == 0 })
	if err == nil {
		return nil
	}
	l.Lock()
	defer l.Unlock()
	return fmt.Errorf("%w; open: %s", err, l.missing())
}

// missing lists the open messages, the first of each lane; the lock must be held.
func (l *Ledger) missing() string {
	const most = 5
	var out []string
	for _, name := range l.names() {
		x := l.lanes[name]
		var first []string
		n := 0
		for i := uint64(1); i <= x.last; i++ {
			if x.accepted.has(i) && !x.over(i) {
				if n++; n <= most {
					first = append(first, fmt.Sprint(i))
				}
			}
		}
		if n > most {
			first = append(first, "…")
		}
		if n > 0 {
			out = append(out, fmt.Sprintf("%s: %d of %d (%s)", name, n, x.accepted.count(), strings.Join(first, " ")))
		}
	}
	return strings.Join(out, "; ")
}

func (l *Ledger) names() []string {
	var names []string
	for name := range l.lanes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Tally is how a lane's messages ended. In = Delivered + Dead + Queued + Lost.
type Tally struct {
	Lane      string
	In        int // accepted
	Delivered int // of those, arrived
	Dead      int // of those, only in the dead letters
	Queued    int // of those, neither, but still stored
	Lost      int // of those, nowhere
	// Duplicated counts arrivals, and dead letters, beyond the first of a message.
	Duplicated int
	// OutOfOrder counts first arrivals after one with a higher number.
	OutOfOrder int
	// Unknown were handed in and never accepted: they may arrive or not.
	Unknown int
	// Strange are arrivals of messages that nobody handed in.
	Strange int
}

func (t *Tally) add(o Tally) {
	t.In += o.In
	t.Delivered += o.Delivered
	t.Dead += o.Dead
	t.Queued += o.Queued
	t.Lost += o.Lost
	t.Duplicated += o.Duplicated
	t.OutOfOrder += o.OutOfOrder
	t.Unknown += o.Unknown
	t.Strange += o.Strange
}

// Report is what the ledger has come to.
type Report struct {
	Lanes []Tally // by name
	Total Tally
}

// Report reconciles what has been noted so far. What is not done yet counts as lost, so wait for
// Settled first, or note what is Queued.
func (l *Ledger) Report() Report {
	l.Lock()
	defer l.Unlock()
	r := Report{Total: Tally{Lane: "total"}}
	for _, name := range l.names() {
		t := l.lanes[name].tally(name)
		r.Lanes = append(r.Lanes, t)
		r.Total.add(t)
	}
	return r
}

func (x *ledgerLane) tally(name string) Tally {
	t := Tally{Lane: name, Duplicated: x.duplicated, OutOfOrder: x.swapped, Strange: x.strange}
	for n := uint64(1); n <= x.last; n++ {
		if !x.accepted.has(n) {
			t.Unknown++
			continue
		}
		t.In++
		switch {
		case x.arrived.has(n):
			t.Delivered++
		case x.died.has(n):
			t.Dead++
		case x.queued.has(n):
			t.Queued++
		default:
			t.Lost++
		}
	}
	return t
}

// Err is nil when nothing was lost, swapped or invented.
func (r Report) Err() error {
	var wrong []string
	for _, t := range r.Lanes {
		if t.Lost > 0 || t.OutOfOrder > 0 || t.Strange > 0 {
			wrong = append(wrong, fmt.Sprintf("%s: of %d accepted %d lost; %d out of order, %d that nobody sent", t.Lane, t.In, t.Lost, t.OutOfOrder, t.Strange))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("ledger: %s", strings.Join(wrong, "; "))
}

// bits is a set of numbers.
type bits []uint64

func (b bits) has(n uint64) bool {
	return n/64 < uint64(len(b)) && b[n/64]&(1<<(n%64)) != 0
}

// set adds a number and reports whether it was new.
func (b *bits) set(n uint64) bool {
	if b.has(n) {
		return false
	}
	for n/64 >= uint64(len(*b)) {
		*b = append(*b, 0)
	}
	(*b)[n/64] |= 1 << (n % 64)
	return true
}

func (b bits) count() int {
	n := 0
	for _, word := range b {
		for ; word != 0; word &= word - 1 {
			n++
		}
	}
	return n
}
