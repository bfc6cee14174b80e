package local

import (
	"context"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// TakeOver is bridge.Lanes.
func (s *Spool) TakeOver(_ context.Context, t mapping.Thing) (bridge.ThingLanes, error) {
	return s.takeOver(t), nil
}

// What follows makes a keeper of the journal.

func (s *Spool) read(_ context.Context, l *lane, after uint64, _ int) (out []laneMessage, _ error) {
	for _, m := range s.journal.Read(l.key, after, readBytes) {
		e, err := decodeEntry(m.Body)
		if err != nil { // it becomes a dead letter as it is
			e = entry{subject: l.key, received: time.Now(), payload: m.Body}
		}
		out = append(out, laneMessage{m.Number, &e, m.Err})
	}
	return out, nil
}

func (s *Spool) settle(l *lane, floor uint64) {
	now := weigh(s.journal.Settle(l.key, floor))
	s.used[l.of.kind.Class()].Add(now - l.weight)
	l.weight = now
	flow.Signal(s.settled)
	flow.Signal(s.store.moved)
}

func (s *Spool) flush(ctx context.Context, _ []*lane) error { return s.journal.Flush(ctx) }

func (s *Spool) sequence(number uint64, e *entry) uint64 {
	if e.sequence > 0 {
		return e.sequence
	}
	return s.base + number
}

func (s *Spool) missed(l *lane, m misses) {
	s.log.Error("stored messages can't be read any more: their records on the disk are damaged; they are lost",
		"thing", l.thing(), "queue", l.of.kind.String(), "journal", s.dir, "messages", m.n, "from", m.first, "to", m.last, "error", m.err)
}

// isPending reports whether a message with a subject is not settled.
func (s *Spool) isPending(l *lane, subject string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending != nil {
		return l.pending[l.hash(subject)] > 0
	}
	for _, e := range s.entries(l.key, l.floor, readBytes) { // nobody asks
		if e.subject == subject {
			return true
		}
	}
	return false
}

// load reads what Pending is asked about, at the start.
func (s *Spool) load(l *lane) {
	if l.pending == nil {
		return
	}
	for number, e := range s.entries(l.key, 0, readBytes) {
		l.note(number, e.subject)
	}
}
