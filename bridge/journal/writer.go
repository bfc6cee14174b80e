package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// writer is the end of the journal, where batches go.
type writer struct {
	current   *segment // nil: the next batch begins one
	salt      uint64   // of the current segment
	end       int64    // where the next batch goes
	next      uint64   // number of the next record
	synced    uint64   // every number up to it is on the disk
	syncedEnd int64    // so is the current segment up to there
	spares    []*segment
	newest    uint32 // highest number of a file
	rescues   []rescue
	leftovers []*segment // files that the newest header does not name
	failures  int        // in a row
	rotated   bool       // a segment was begun since the last maintain
	buffer    []byte
}

// rescue is a segment whose last batches count, although a sync of them failed. They are written again to another segment.
type rescue struct {
	*scanner
	segment  *segment
	from, to int64
}

func (w *writer) unsynced() bool { return w.next-1 > w.synced }

// append writes a batch, and syncs it if sync is set. When it returns nil, the batch is in the index. After an error
// nothing of the batch counts, and the next batch goes to another segment.
func (j *Journal) append(b *batch, sync bool) (err error) {
	w := &j.writer
	defer func() { j.outcome(err) }()
	if b.number(); w.current == nil || w.end+b.cost() > w.current.size {
		return j.begin(b)
	}
	at := w.end
	encoded, bodiesAt := b.encode(w.buffer[:0], w.salt, at)
	w.buffer = encoded
	if _, err := w.current.file.WriteAt(w.buffer, at); err != nil {
		return j.poison(err)
	}
	if sync {
		if err := w.current.file.Sync(); err != nil {
			return j.poison(err)
		}
	}
	j.written(b, bodiesAt, at+int64(len(w.buffer)), sync)
	return nil
}

// turn begins a new segment with a batch.
func (j *Journal) turn(b *batch) (err error) {
	defer func() { j.outcome(err) }()
	b.number()
	return j.begin(b)
}

// written notes that a batch was written, where its bodies begin, and where the next batch goes.
func (j *Journal) written(b *batch, bodiesAt, end int64, synced bool) {
	w := &j.writer
	w.next, w.end, w.current.last = b.last()+1, end, b.last()
	if synced {
		w.synced, w.syncedEnd = b.last(), end
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.index.apply(b, w.current.number(), bodiesAt)
}

// begin makes a spare file the current segment, with a batch as its first. The new header leaves out the segments
// with nothing live; once it is on the disk they go.
func (j *Journal) begin(b *batch) error {
	if err := j.sync(); err != nil {
		return err
	}
	w := &j.writer
	if len(w.spares) == 0 {
		j.topUp()
	}
	if len(w.spares) == 0 {
		return fmt.Errorf("%w: no file can be made", ErrFull)
	}
	s := w.spares[0]
	s.first, s.last = b.first, b.first-1
	h := header{segment: s.number(), salt: rand.Uint64(), first: b.first}
	gone := j.divide(&h, b.time)
	b.synced = w.synced
	w.buffer = h.encode(w.buffer[:0])
	at := int64(len(w.buffer))
	var bodiesAt int64
	w.buffer, bodiesAt = b.encode(w.buffer, h.salt, at)
	if int64(len(w.buffer)) > s.size {
		return fmt.Errorf("%w: the list of %d segments leaves no room for it", ErrTooLarge, len(h.older))
	}
	w.spares = w.spares[1:]
	j.mu.Lock()
	j.index.reserve -= s.size
	j.mu.Unlock()
	_, err := s.file.WriteAt(w.buffer, 0)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil { // the disk may have the header all the same; then nothing that is written to the segment before it would count
		j.seal()
		j.discard(s)
		return diskError(s.number(), err)
	}
	j.mu.Lock()
	j.index.begin(s)
	j.index.drop(gone)
	j.mu.Unlock()
	w.current, w.salt, w.rotated = s, h.salt, true
	j.written(b, bodiesAt, int64(len(w.buffer)), true)
	for _, f := range w.leftovers {
		j.discard(f)
	}
	w.leftovers = nil
	j.recycle(gone)
	return nil
}

// divide puts the segments that stay into the header, and returns the others: those without live records. Of these, some
// young ones stay if there is room, because of the ids in them. While a rescue is to be done, all stay.
func (j *Journal) divide(h *header, now int64) (gone []*segment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	spared := 0
	for _, s := range slices.Backward(j.index.segments) {
		switch {
		case s.live > 0 || len(j.writer.rescues) > 0:
			h.older = append(h.older, s.extent)
		case !j.index.short && spared < keepEmpties && now-s.time < idWindow.Milliseconds():
			h.older = append(h.older, s.extent)
			spared++
		default:
			gone = append(gone, s)
		}
	}
	slices.Reverse(h.older)
	return gone
}

// sync syncs the lazy groups, which were answered before they were on the disk.
func (j *Journal) sync() (err error) {
	w := &j.writer
	if w.current == nil || !w.unsynced() {
		return nil
	}
	defer func() { j.outcome(err) }()
	if err := w.current.file.Sync(); err != nil {
		return j.poison(err)
	}
	w.synced, w.syncedEnd = w.next-1, w.end
	return nil
}

// seal ends the current segment: the next batch begins another one.
func (j *Journal) seal() {
	j.writer.current = nil
	j.mu.Lock()
	defer j.mu.Unlock()
	j.index.end()
}

// poison ends a segment after a failed write or sync. What the disk has of it beyond the last sync is unknown, and another
// sync of the same pages could succeed without writing them. What was answered already is written again to another segment.
func (j *Journal) poison(err error) error {
	w := &j.writer
	s := w.current
	j.seal()
	s.last = max(w.synced, s.first-1)
	if w.unsynced() {
		scan := &scanner{ctx: context.Background(), file: s.file, size: s.size, salt: w.salt, known: j.index.known}
		w.rescues = append(w.rescues, rescue{scan, s, w.syncedEnd, w.end})
	}
	return diskError(s.number(), err)
}

// rescue writes the batches of failed segments again, each as a whole. Until that is done nothing new is written, and no
// segment is removed.
func (j *Journal) rescue() error {
	w := &j.writer
	for len(w.rescues) > 0 {
		r := &w.rescues[0]
		found, ok := r.next(r.from)
		if !ok || found.end > r.to {
			w.rescues = w.rescues[1:]
			continue
		}
		b := r.again(found)
		b.first, b.synced, b.time = w.next, w.synced, found.time
		if err := j.append(b, true); err != nil {
			return err
		}
		w.rescues[0].from = found.end
	}
	return nil
}

// again returns a batch to be written a second time. Bodies that can't be read are marked as lost.
func (r *rescue) again(found scanned) *batch {
	b, at := &batch{}, found.bodiesAt
	for _, record := range found.records {
		if record.stored() {
			record.body = make([]byte, record.size)
			record.lost = readFull(r.file, record.body, at) != nil || checksum(record.body) != record.sum
			at += int64(record.size)
		}
		if record.lost {
			record.body, record.size = nil, 0
		}
		b.add(record)
	}
	return b
}

func diskError(segment uint32, err error) error {
	if errors.Is(err, noSpace) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	return fmt.Errorf("journal, segment %d: %w", segment, err)
}

// outcome counts failures in a row, and logs when they begin and end.
func (j *Journal) outcome(err error) {
	w, log := &j.writer, j.options.Log
	switch {
	case err != nil:
		if w.failures == 0 {
			log.Error("the journal can't be written; trying again with new files", "dir", j.dir, "error", err)
		}
		w.failures++
	case w.failures > 0:
		log.Info("the journal is written again", "dir", j.dir, "failures", w.failures)
		w.failures = 0
	}
}

// After a failure the journal rests, twice as long each time.
const (
	firstRest = 50 * time.Millisecond
	maxRest   = 500 * time.Millisecond // groups wait meanwhile, and their senders want to hear of the failure
)

func (j *Journal) backOff() {
	w := &j.writer
	if w.failures == 0 {
		return
	}
	if len(w.rescues) > 0 {
		j.intake.nudge()
	}
	select {
	case <-time.After(min(firstRest<<min(w.failures-1, 10), maxRest)):
	case <-j.intake.closed:
	}
}
