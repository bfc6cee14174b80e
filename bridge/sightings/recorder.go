package sightings

import (
	"slices"
	"sync"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// Bounds of the ring, and of how many sightings it takes in a second: of those other than delivered (odd), of those that a
// narrow filter picks, and of the rest. Further ones are only counted.
const (
	maxRecords = 4096
	maxBytes   = 4 << 20
	maxTails   = 8

	oddRate    = 200
	narrowRate = 1000
	restRate   = 300
)

// keepFor is how long the ring goes on after the last tail has ended, so that a trace can show what was just seen.
const keepFor = 10 * time.Minute

// Recorder is the one viewer of a bridge's Watch: it looks while there are tails, and a while longer.
type Recorder struct {
	watch *bridge.Watch
	now   func() time.Time // nil: the time of what is seen

	mu                sync.Mutex
	ring              []*Record // the oldest first
	bytes             int
	next              uint64 // number of the next record
	tails             []*tail
	closed            bool
	idle              *time.Timer // set while there is no tail, and the ring goes on
	odd, narrow, rest bucket
}

// NewRecorder prepares one. It looks at nothing until there is a tail.
func NewRecorder(w *bridge.Watch) *Recorder {
	return &Recorder{watch: w, next: 1, odd: bucket{rate: oddRate}, narrow: bucket{rate: narrowRate}, rest: bucket{rate: restRate}}
}

// tail is one reader of the ring, at its own pace.
type tail struct {
	filter  Filter
	next    uint64 // the record that it has not seen yet
	skipped misses // sightings since the last read that its filter picks and that were not kept
	wake    chan struct{}
}

// open adds a tail that sees what comes from now on; nil: there are as many as there may be, or it is closed.
func (r *Recorder) open(f Filter) *tail {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.tails) >= maxTails {
		return nil
	}
	t := &tail{filter: f, next: r.next, wake: make(chan struct{}, 1)}
	r.tails = append(r.tails, t)
	if r.idle != nil {
		r.idle.Stop()
		r.idle = nil
	}
	r.watch.Show(r)
	return t
}

// close takes a tail away. The ring stays for a while after the last.
func (r *Recorder) close(t *tail) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tails = slices.DeleteFunc(r.tails, func(o *tail) bool { return o == t })
	if len(r.tails) > 0 || r.closed {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(keepFor, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.idle == timer { // nobody came meanwhile
			r.forget()
		}
	})
	r.idle = timer
}

// Close ends looking, for good.
func (r *Recorder) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.idle != nil {
		r.idle.Stop()
	}
	r.forget()
}

// forget drops the ring. The caller holds the lock.
func (r *Recorder) forget() {
	r.watch.Hide(r)
	r.ring, r.bytes, r.idle = nil, 0, nil
}

// Saw implements bridge.Viewer. It keeps a copy of the sighting, or counts it as skipped for the tails that wanted it.
func (r *Recorder) Saw(s *bridge.Sighting) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	var wanted [maxTails]bool
	narrow := false
	for i, t := range r.tails {
		wanted[i] = t.filter.picks(s)
		narrow = narrow || wanted[i] && t.filter.narrow()
	}
	var kept *Record
	if r.room(s, narrow) {
		kept = newRecord(s)
		r.keep(kept)
	}
	for i, t := range r.tails {
		if !wanted[i] {
			continue
		}
		if kept == nil || !t.filter.keeps(kept) { // what it looks for may have been cut off
			t.skipped.one(s.Address.Channel)
		}
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// room takes a place for a sighting, if there is one now.
func (r *Recorder) room(s *bridge.Sighting, narrow bool) bool {
	now := s.At
	if r.now != nil {
		now = r.now()
	}
	if s.Outcome != bridge.Delivered && r.odd.take(now) {
		return true
	}
	if narrow && r.narrow.take(now) {
		return true
	}
	return r.rest.take(now)
}

// keep adds a record, and lets the oldest go that there is no room for.
func (r *Recorder) keep(n *Record) {
	n.number = r.next
	r.next++
	r.ring = append(r.ring, n)
	r.bytes += n.size
	for len(r.ring) > maxRecords || r.bytes > maxBytes {
		gone := r.ring[0]
		r.ring[0] = nil
		r.ring = r.ring[1:]
		r.bytes -= gone.size
		for _, t := range r.tails {
			if t.next > gone.number {
				continue
			}
			t.next = gone.number + 1
			if t.filter.keeps(gone) {
				t.skipped.one(mapping.Channel(gone.Channel))
			}
		}
	}
}

// batch bounds what a tail reads at once.
const batch = 256

// read appends records that the tail has not seen yet to out, at most a batch, and returns what was skipped since the last
// read. more reports whether there is more to read.
func (r *Recorder) read(t *tail, out []*Record) (_ []*Record, skipped Gap, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	skipped = t.skipped.take()
	if len(r.ring) > 0 {
		from := int(t.next - r.ring[0].number) // keep has seen to it that this is not negative
		for _, n := range r.ring[min(from, len(r.ring)):] {
			if len(out) == batch {
				return out, skipped, true
			}
			if t.next = n.number + 1; t.filter.keeps(n) {
				out = append(out, n)
			}
		}
	}
	return out, skipped, false
}

// All is what is kept now, the oldest first.
func (r *Recorder) All() []*Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ring)
}

// bucket gives out rate places a second, and saves those of one second.
type bucket struct {
	rate float64
	have float64
	at   time.Time
}

func (b *bucket) take(now time.Time) bool {
	if b.at.IsZero() {
		b.have = b.rate
		b.at = now
	} else if since := now.Sub(b.at); since > 0 { // they come from many goroutines
		b.have = min(b.rate, b.have+since.Seconds()*b.rate)
		b.at = now
	}
	if b.have < 1 {
		return false
	}
	b.have--
	return true
}
