package journal

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

// Spare files are made beforehand. The last of them are the reserve: groups leave three unused. Urgent ones leave one, which is
// needed for the segment whose header leaves old segments out.
const (
	spareFiles    = 4
	keepOrdinary  = 3
	keepUrgent    = 1
	manyEmpties   = 4 // so many segments without live records are worth a new header, which leaves them out
	someEmpties   = 2 // the same while groups get ErrFull
	keepEmpties   = 2 // young ones that stay for the ids in them
	moveBelow     = 4 // a segment is moved when less than one part in so many of it is live
	moveBelowFull = 2 // the same while groups get ErrFull
)

func (j *Journal) path(segment uint32) string { return filepath.Join(j.dir, fileName(segment)) }

const suffix = ".seg"

func fileName(segment uint32) string { return fmt.Sprintf("%010d%s", segment, suffix) }

// admit reports whether a batch may grow to so many bytes for a group.
func (j *Journal) admit(bytes int64, urgent bool) bool {
	ordinary := j.room(bytes, false) || j.topUp() && j.room(bytes, false)
	urgent = urgent && j.room(bytes, true)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.index.short = !ordinary
	return urgent || ordinary && (j.options.MaxBytes == 0 || j.index.live+bytes <= j.options.MaxBytes)
}

// room reports whether there is room for a batch, with what a new segment would let go.
func (j *Journal) room(bytes int64, urgent bool) bool {
	w := &j.writer
	j.mu.Lock()
	spares := len(w.spares) + j.index.empties
	j.mu.Unlock()
	keep := keepOrdinary
	if urgent {
		keep = keepUrgent
	}
	fits := w.current != nil && w.end+bytes <= w.current.size
	return fits && (urgent || spares >= keep) || !fits && spares > keep && len(w.spares) > 0
}

// topUp makes spare files while there is room, and reports whether it made one.
func (j *Journal) topUp() bool {
	w, size := &j.writer, j.options.SegmentSize
	var made []*segment
	for len(w.spares)+len(made) < spareFiles {
		free, _, err := j.options.FS.Space(j.dir)
		if err != nil || free < size+j.options.MinFree {
			break
		}
		w.newest++
		f, err := j.options.FS.Create(j.path(w.newest), size)
		if err != nil {
			break
		}
		made = append(made, &segment{extent: extent{segment: w.newest}, file: f, size: size})
		if f.Sync() != nil { // without it a power cut takes the room
			j.discard(made[len(made)-1])
			made = made[:len(made)-1]
			break
		}
	}
	return len(made) > 0 && j.keep(made) == nil
}

// keep makes spares of files whose names are not durable yet: what is written to a file whose name gets lost is lost.
func (j *Journal) keep(made []*segment) error {
	if len(made) == 0 {
		return nil
	}
	if err := j.options.FS.SyncDir(j.dir); err != nil {
		for _, s := range made {
			j.discard(s)
		}
		return err
	}
	j.writer.spares = append(j.writer.spares, made...)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.index.reserve += int64(len(made)) * j.options.SegmentSize
	return nil
}

// discard removes a file that no header names. If it comes back, the next start tries again.
func (j *Journal) discard(s *segment) {
	_ = s.file.Close()
	_ = j.options.FS.Remove(j.path(s.number()))
}

// recycle makes spares of segments that no header names any more, or removes them.
func (j *Journal) recycle(gone []*segment) {
	if len(gone) == 0 {
		return
	}
	j.awaitReaders()
	var made []*segment
	for _, s := range gone {
		if spare := j.rename(s, len(j.writer.spares)+len(made)); spare != nil {
			made = append(made, spare)
		} else {
			j.discard(s)
		}
	}
	_ = j.keep(made)
}

// awaitReaders waits for readers that have found a segment in the index before it was removed from it.
func (j *Journal) awaitReaders() {
	j.files.Lock()
	defer j.files.Unlock()
}

// rename makes a spare of a segment, if there are too few: without a header, under a number of its own.
func (j *Journal) rename(s *segment, spares int) *segment {
	if spares >= spareFiles || s.size != j.options.SegmentSize {
		return nil
	}
	if _, err := s.file.WriteAt(make([]byte, 2*headerAlign), 0); err != nil || s.file.Sync() != nil {
		return nil
	}
	j.writer.newest++
	if j.options.FS.Rename(j.path(s.number()), j.path(j.writer.newest)) != nil {
		return nil
	}
	return &segment{extent: extent{segment: j.writer.newest}, file: s.file, size: s.size}
}

// maintain works between two batches: it removes segments without live records, moves the few live ones of others, and
// makes spares.
func (j *Journal) maintain() {
	w := &j.writer
	if j.rescue() != nil {
		return
	}
	j.mu.Lock()
	reclaim, short := j.index.reclaimable(), j.index.short
	j.mu.Unlock()
	if reclaim && len(w.spares) > 0 {
		b := j.newBatch()
		j.addFloors(b, 0)
		if j.turn(b) != nil {
			return
		}
	}
	if !w.rotated && !short {
		return
	}
	w.rotated = false
	for _, s := range j.victims(short) {
		if j.move(s) != nil {
			break
		}
	}
	j.topUp()
}

// reclaimable reports whether a new header is worth it for the segments that it lets go.
func (x *index) reclaimable() bool {
	return x.empties >= manyEmpties || x.short && x.empties >= someEmpties
}

// victims returns segments with few live records, as many as fit together into a part of one segment.
func (j *Journal) victims(short bool) (victims []*segment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	part := int64(moveBelow)
	if short {
		if part = moveBelowFull; j.index.empties >= someEmpties {
			return nil
		}
	}
	sorted := slices.Clone(j.index.segments)
	slices.SortStableFunc(sorted, func(a, b *segment) int { return cmp.Compare(a.live, b.live) })
	sum := int64(0)
	for _, s := range sorted {
		if s == j.writer.current || s.live == 0 {
			continue
		}
		if sum += s.live; s.live > s.size/part || sum > j.options.SegmentSize/part {
			break
		}
		victims = append(victims, s)
	}
	return victims
}

var errNoRoom = errors.New("no room to move records to")

// move appends what is live in a segment again. With that the segment holds nothing live.
func (j *Journal) move(s *segment) error {
	for {
		b, err := j.collect(s)
		if err != nil || len(b.records) == 0 {
			return err
		}
		if !j.room(b.cost(), true) {
			return errNoRoom
		}
		if err := j.append(b, true); err != nil {
			return err
		}
	}
}

// collect makes a batch of what is live in a segment, as much as fits. A body that is damaged there leaves a record that
// says so. A body that the disk does not give now stays where it is: that is an error.
func (j *Journal) collect(s *segment) (*batch, error) {
	b := j.newBatch()
	j.mu.Lock()
	j.index.release(s.number())
	places := j.index.liveIn(s.number(), b, j.maxBatch())
	j.mu.Unlock()
	for i, p := range places {
		r := &b.records[i]
		if r.lost = p.lost(); !r.stored() {
			continue
		}
		body := make([]byte, p.size)
		if err := readFull(s.file, body, int64(p.at)); err != nil {
			return nil, err
		}
		if r.lost = checksum(body) != p.sum; !r.lost {
			r.body, r.size, r.sum = body, p.size, p.sum
			b.bodies += int64(p.size)
		}
	}
	j.addFloors(b, b.cost())
	return b, nil
}

// all returns the lanes by their keys, and the view records.
func (x *index) all() []*lane {
	lanes := []*lane{&x.views}
	for _, key := range slices.Sorted(maps.Keys(x.lanes)) {
		lanes = append(lanes, x.lanes[key])
	}
	return lanes
}

// release prepares the removal of a segment. Its floors are written again if they are still needed; deletions that are not
// needed any more are forgotten.
func (x *index) release(leaving uint32) {
	for _, l := range x.all() {
		switch {
		case l.mark != leaving:
		case x.holds(l.held, leaving):
			x.soil(l)
		default:
			x.weigh(leaving, -weight(l.key, place{}))
			l.mark = 0
		}
	}
	for key, s := range x.states {
		if s.deleted && s.segment == leaving && !x.holds(s.held, leaving) {
			x.weigh(leaving, -weight(key, place{}))
			delete(x.states, key)
		}
	}
}

// liveIn adds what is live in a segment, without bodies, as much as fits.
func (x *index) liveIn(leaving uint32, b *batch, limit int64) (places []place) {
	add := func(r record, p place) bool {
		if p.segment != leaving {
			return true
		}
		if limit -= r.cost() + p.bytes(); limit < 0 && len(places) > 0 {
			return false
		}
		places, b.records = append(places, p), append(b.records, r)
		return true
	}
	var keys []string
	for key, s := range x.states {
		if s.segment == leaving {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		s, kind := x.states[key], State
		if s.deleted {
			kind = deleted
		}
		if !add(record{kind: kind, key: key}, s.place) {
			return places
		}
	}
	for _, l := range x.all() {
		l.queue.after(0, func(p place) bool { return add(record{kind: l.kind, key: l.key, ref: p.number}, p) })
	}
	return places
}
