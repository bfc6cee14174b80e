package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/storedir"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// partJournal stands for the journal that can't be written.
const partJournal = "journal"

// fails is told why something was not stored. It does not block.
func (s *Spool) fails(err error) {
	if err == nil || errors.Is(err, journal.ErrClosed) || errors.Is(err, journal.ErrTooLarge) {
		return
	}
	s.failure.Store(&err)
	flow.Signal(s.failed)
}

// watch notes what keeps the journal from taking messages, and says when that begins. Check finds its end.
func (s *Spool) watch() {
	for {
		select {
		case <-s.ended:
			return
		case <-s.failed:
		}
		err := *s.failure.Load()
		if err != journal.ErrFull { // else nobody has tried: what is left of the disk is kept for other things
			s.store.troubles.note(partJournal, "cannot store: "+err.Error()) // the journal says it
			continue
		}
		free, _, kept, _ := storedir.Space(s.dir)
		if s.store.troubles.note(partDisk, fmt.Sprintf("it is nearly full, %d bytes are free of the %d that are kept for what is stored already; publishers get errors", free, kept)) {
			s.log.Error("the disk is nearly full; the queues take no more, publishers get errors", "free_bytes", free, "reserve_bytes", kept)
		}
	}
}

// Check looks whether what kept the journal from taking messages is over, and whether a class is full, and notes it for
// Store.Troubles. It is called every few seconds.
func (s *Spool) Check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, streams.AnswerTime)
	defer cancel()
	if s.store.troubles.has(partDisk) {
		if _, err := s.journal.Append(ctx, &journal.Group{}); err == nil && s.store.troubles.note(partDisk, "") { // which asks for room
			free, _, _, _ := storedir.Space(s.dir)
			s.log.Info("the disk has room again, the queues take more", "free_bytes", free)
		}
	}
	if s.store.troubles.has(partJournal) {
		g := &journal.Group{Urgent: true}
		g.Put("probe", nil)
		if _, err := s.journal.Append(ctx, g); err == nil {
			s.store.troubles.note(partJournal, "") // the journal says it
		}
	}
	for _, class := range mapping.Classes {
		s.store.found("stream "+s.subjects.Name(wire.UpStream(class)), s.full(class))
	}
}

// full says that a class takes no more; empty: it does. While the disk is full that is said instead.
func (s *Spool) full(class mapping.Class) string {
	used, most := s.used[class].Load(), s.store.cfg.Up
	if most <= 0 || s.store.troubles.has(partDisk) || used+max(min(int64(s.largest), most/20), 1) <= most {
		return ""
	}
	return fullText(uint64(used), most)
}

// Fills tells how much waits in each class, as of the streams that an external server would have.
func (s *Spool) Fills() (out []Fill) {
	messages := [len(mapping.Classes)]uint64{}
	for _, b := range s.journal.Lanes() {
		of, _ := parseLaneKey(b.Lane)
		messages[of.kind.Class()] += uint64(b.Messages)
	}
	for _, class := range mapping.Classes {
		out = append(out, Fill{Stream: s.subjects.Name(wire.UpStream(class)), Exists: true, MaxBytes: max(s.store.cfg.Up, 0),
			Messages: messages[class], Bytes: uint64(max(s.used[class].Load(), 0))})
	}
	return out
}

// fillsSubject is where a bridge is asked for Fills; `fleetbridge doctor` does.
func fillsSubject(s mapping.Subjects) string { return "_" + s.Prefix() + ".queues" }

// askFills asks the bridge of an embedded server.
func askFills(ctx context.Context, nc *nats.Conn, s mapping.Subjects) (out []Fill, err error) {
	m, err := nc.RequestWithContext(ctx, fillsSubject(s), nil)
	if err == nil {
		err = json.Unmarshal(m.Data, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("asking the bridge for its queues: %w", err)
	}
	return out, nil
}

// mark is how far the journal has come.
func (s *Spool) mark(clean bool) mark {
	m := mark{Last: s.journal.Last()}
	if clean {
		n := uint64(s.journal.Size().Messages)
		m.Messages = &n
	}
	return m
}

// judgeJournal says what is missing of a journal, as far as it can be told.
func (c *custody) judgeJournal(j *journal.Journal, relaxed bool) {
	was, last, n := c.last[journalMark], j.Last(), uint64(j.Size().Messages)
	switch {
	case last < was.Last && was.Messages == nil && relaxed:
		c.log.Warn("the end of the journal was not on the disk yet when the power went, and is lost",
			"records_lost", was.Last-last, "mend", "nats.embedded.sync: always never loses anything")
	case last < was.Last:
		c.log.Error("the end of the journal is missing: its files were damaged, removed, or come from an older copy; what they held is lost",
			"ends_at", last, "ended_at", was.Last, "records_lost", was.Last-last)
	case was.Messages != nil && n < *was.Messages:
		c.log.Error("messages are missing from the journal: its files were damaged or removed; what they held is lost",
			"messages", n, "messages_before", *was.Messages, "messages_lost", *was.Messages-n)
	}
}

// journalMark is where custody has the journal's mark; no stream has such a name.
const journalMark = "=journal"
