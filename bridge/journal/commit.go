package journal

import (
	"errors"
	"slices"
	"time"
)

// run is the committer: it writes what waits, syncs once, and answers.
func (j *Journal) run() {
	defer close(j.ended)
	var due <-chan time.Time
	for {
		select {
		case <-j.intake.wake:
			j.commit(j.intake.take(j.maxBatch()))
		case <-due:
			due = nil
			_ = j.sync() // it handles its failure itself
		case <-j.intake.closed:
			j.closeErr = errors.Join(j.shut(), j.closeFiles())
			return
		}
		j.maintain()
		j.backOff()
		if due == nil && j.writer.unsynced() && j.options.Interval > 0 {
			due = time.After(j.options.Interval)
		}
	}
}

// shut writes what failed before, the groups that wait, the floors, and a last batch that says that all is synced.
func (j *Journal) shut() error {
	for tickets := j.intake.take(j.maxBatch()); tickets != nil; tickets = j.intake.take(j.maxBatch()) {
		j.commit(tickets)
	}
	if err := j.rescue(); err != nil {
		return err
	}
	for {
		b := j.newBatch()
		j.addFloors(b, 0)
		if len(b.records) == 0 && j.writer.current == nil {
			return nil
		}
		if err := j.append(b, true); err != nil || len(b.records) == 0 {
			return err
		}
	}
}

// maxBatch is how many bytes a group may have, and the groups that are written at once.
func (j *Journal) maxBatch() int64 { return j.options.SegmentSize / 2 }

func (j *Journal) newBatch() *batch {
	w := &j.writer
	return &batch{first: w.next, synced: w.synced, time: time.Now().UnixMilli()}
}

// commit writes groups, and answers all of them.
func (j *Journal) commit(tickets []*ticket) {
	if len(tickets) == 0 {
		return
	}
	rescued := j.rescue()
	b := j.newBatch()
	var taken []*ticket
	own, used, sync, flush := map[string]uint64{}, int64(batchCost), j.options.Interval == 0, false
	for _, t := range tickets {
		sync, flush = sync || !t.Lazy, flush || t.flush
		switch first, seen := j.seen(t.ID, own, b.time); {
		case seen:
			t.receipt = Receipt{First: first, Duplicate: true}
		case !j.admit(used+t.size(), t.Urgent):
			t.done(Receipt{}, ErrFull)
			continue
		default:
			used += t.size()
			t.receipt.First = b.last() + 1
			for _, r := range t.records {
				b.add(r)
			}
			if t.ID != "" {
				own[t.ID] = t.receipt.First
				b.add(record{kind: ident, key: t.ID, ref: t.receipt.First})
			}
		}
		taken = append(taken, t)
	}
	err := rescued
	if err == nil {
		err = j.write(b, used, sync, flush)
	}
	for _, t := range taken {
		if err != nil {
			t.receipt = Receipt{}
		}
		t.done(t.receipt, err)
	}
}

// write appends what is in the batch, with the floors that wait. A flush writes these also if there is nothing else.
func (j *Journal) write(b *batch, used int64, sync, flush bool) error {
	if len(b.records) > 0 || flush {
		j.addFloors(b, used)
	}
	switch {
	case len(b.records) > 0:
		return j.append(b, sync)
	case sync:
		return j.sync()
	}
	return nil
}

// seen returns the number of the group that has the id already, in the journal or in the batch.
func (j *Journal) seen(id string, own map[string]uint64, now int64) (first uint64, seen bool) {
	if id == "" {
		return 0, false
	}
	if first, seen = own[id]; seen {
		return first, true
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.index.ids.number(id, now)
}

// addFloors adds the floors that no file has yet, as far as they fit beside the bytes that are used.
func (j *Journal) addFloors(b *batch, used int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.index.dirty = slices.DeleteFunc(j.index.dirty, func(l *lane) bool {
		l.listed = l.dirty
		return !l.dirty
	})
	for _, l := range j.index.dirty {
		r := record{kind: floor, key: l.key, ref: l.floor}
		if l.kind == View {
			r.kind = checkpoint
		}
		if used += r.cost(); used > j.maxBatch()+j.maxBatch()/4 {
			return
		}
		b.add(r)
	}
}
