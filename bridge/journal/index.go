package journal

import (
	"cmp"
	"slices"
)

// index says, in memory, where each body is in the files, and what is settled. Journal.mu guards it.
type index struct {
	segments []*segment // by number
	open     *segment   // the one that grows; nil: none
	last     uint64     // number of the newest record
	lanes    map[string]*lane
	views    lane // settled by checkpoints
	states   map[string]*state
	dirty    []*lane // lanes with a floor that no file has yet; the next write has it
	live     int64   // weight of all that is live
	empties  int     // segments without live records, not counting the open one
	short    bool    // only the reserve is left
	reserve  int64   // bytes of the spare files
	ids      ids
}

// segment is one file.
type segment struct {
	extent
	file File
	size int64 // bytes of the file
	live int64 // weight of its records that are not gone
	time int64 // of the newest batch, Unix milliseconds
}

// lane is a queue of messages under a key.
//
// A floor is written behind the messages that it settles. It has to stay as long as a segment may hold one of them;
// otherwise they would come back at the next start.
type lane struct {
	key   string
	kind  Kind // Lane or View
	floor uint64
	queue queue
	bytes int64 // of the bodies in the queue
	held  span  // segments that may hold messages, live or not
	dirty bool  // no segment has the floor yet

	listed  bool   // in the index's list dirty, perhaps no longer dirty
	written uint64 // the highest floor that a segment has
	mark    uint32 // which segment has it; 0: none
}

// state is where the newest value of a key is. A deletion stays, like a floor, while a segment may hold a value.
type state struct {
	place
	deleted bool
	held    span
}

// span is a range of segments.
type span struct{ oldest, newest uint32 }

func (s *span) add(segment uint32) {
	if s.oldest == 0 {
		s.oldest = segment
	}
	s.newest = max(s.newest, segment)
}

func newIndex() index {
	return index{
		lanes:  map[string]*lane{},
		views:  lane{kind: View},
		states: map[string]*state{},
		ids:    newIDs(),
	}
}

// weight is about what a record takes in a file.
func weight(key string, p place) int64 { return record{key: key}.cost() + p.bytes() }

func (x *index) segment(number uint32) *segment {
	i, found := slices.BinarySearchFunc(x.segments, number, func(s *segment, n uint32) int { return cmp.Compare(s.number(), n) })
	if !found {
		return nil
	}
	return x.segments[i]
}

func (s *segment) number() uint32 { return s.extent.segment }

// weigh adds to what is live in a segment.
func (x *index) weigh(number uint32, by int64) {
	s := x.segment(number)
	if s == nil {
		return
	}
	was := s.live
	s.live += by
	x.live += by
	switch {
	case s == x.open:
	case was != 0 && s.live == 0:
		x.empties++
	case was == 0 && s.live != 0:
		x.empties--
	}
}

// begin makes a segment the one that grows.
func (x *index) begin(s *segment) {
	x.end()
	x.segments, x.open = append(x.segments, s), s
}

// end says that none grows any more.
func (x *index) end() {
	if x.open != nil && x.open.live == 0 {
		x.empties++
	}
	x.open = nil
}

// holds reports whether a segment of the span is there, other than the one that is leaving.
func (x *index) holds(s span, leaving uint32) bool {
	i, _ := slices.BinarySearchFunc(x.segments, s.oldest, func(s *segment, n uint32) int { return cmp.Compare(s.number(), n) })
	for ; i < len(x.segments) && x.segments[i].number() <= s.newest; i++ {
		if x.segments[i].number() != leaving {
			return s.oldest != 0
		}
	}
	return false
}

// laneOf returns the lane that a record belongs to.
func (x *index) laneOf(r *record) *lane {
	if r.kind == View || r.kind == checkpoint {
		return &x.views
	}
	l := x.lanes[r.key]
	if l == nil {
		l = &lane{key: r.key, kind: Lane}
		x.lanes[r.key] = l
	}
	return l
}

// apply adds a batch whose bodies begin at a place of a segment.
func (x *index) apply(b *batch, segment uint32, at int64) {
	for i := range b.records {
		r := &b.records[i]
		p := place{number: r.ref, segment: segment, at: uint32(at), size: r.size, sum: r.sum}
		if r.lost {
			p.size = lostSize
		}
		switch r.kind {
		case Lane, View:
			x.append(x.laneOf(r), p, segment)
		case State, deleted:
			x.put(r.key, p, r.kind == deleted, segment)
		case floor, checkpoint:
			x.floor(x.laneOf(r), r.ref, segment)
		case ident:
			x.ids.add(r.key, r.ref, b.time)
		}
		at += int64(r.size)
	}
	x.last = max(x.last, b.last())
	x.segment(segment).time = b.time
}

// append puts a message into its lane. One that is there already has been moved.
func (x *index) append(l *lane, p place, segment uint32) {
	l.held.add(segment)
	if p.number <= l.floor {
		return
	}
	if old, moved := l.queue.set(p); moved {
		x.weigh(old.segment, -weight(l.key, old))
		l.bytes -= old.bytes()
	}
	x.weigh(p.segment, weight(l.key, p))
	l.bytes += p.bytes()
}

func (x *index) put(key string, p place, deletion bool, segment uint32) {
	s := x.states[key]
	if s == nil {
		s = &state{}
		x.states[key] = s
	}
	if !deletion {
		s.held.add(segment)
	}
	if p.number < s.number { // written again after a newer one
		return
	}
	x.weigh(s.segment, -weight(key, s.place))
	s.place, s.deleted = p, deletion
	x.weigh(s.segment, weight(key, s.place))
}

// floor notes that a segment has a floor. A lower one than before has no effect.
func (x *index) floor(l *lane, floor uint64, segment uint32) {
	if floor >= l.written {
		x.weigh(l.mark, -weight(l.key, place{}))
		l.mark, l.written = segment, floor
		x.weigh(l.mark, weight(l.key, place{}))
	}
	if floor >= l.floor {
		l.dirty = false
		x.settle(l, floor)
	}
}

// settle removes from a lane what is not above the floor.
func (x *index) settle(l *lane, floor uint64) {
	if floor <= l.floor {
		return
	}
	l.floor = floor
	for {
		p, ok := l.queue.pop(floor)
		if !ok {
			return
		}
		x.weigh(p.segment, -weight(l.key, p))
		l.bytes -= p.bytes()
	}
}

// sweep forgets the floors and deletions of what is in no segment any more.
func (x *index) sweep() {
	for key, l := range x.lanes {
		if l.queue.len == 0 && !x.holds(l.held, 0) {
			x.weigh(l.mark, -weight(key, place{}))
			delete(x.lanes, key)
			l.dirty = false
		}
	}
	for key, s := range x.states {
		if s.deleted && !x.holds(s.held, 0) {
			x.weigh(s.segment, -weight(key, place{}))
			delete(x.states, key)
		}
	}
}

// soil marks a lane's floor as unwritten, so the next write carries it.
func (x *index) soil(l *lane) {
	l.dirty = true
	if !l.listed {
		l.listed = true
		x.dirty = append(x.dirty, l)
	}
}

// drop removes segments from the list.
func (x *index) drop(gone []*segment) {
	x.segments = slices.DeleteFunc(x.segments, func(s *segment) bool { return slices.Contains(gone, s) })
	x.empties -= len(gone)
	x.sweep()
}
