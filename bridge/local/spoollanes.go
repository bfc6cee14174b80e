package local

import (
	"context"
	"fmt"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// SpoolLanes are bridge.ThingLanes on a spool.
type SpoolLanes struct {
	spool    *Spool
	thing    mapping.Thing
	feeds    [len(mapping.Kinds)]*feed
	wake     chan struct{} // one of them is to read
	replaced chan struct{} // closed when somebody else has taken one of the lanes over
}

// TakeOver is bridge.Lanes.
func (s *Spool) TakeOver(_ context.Context, t mapping.Thing) (bridge.ThingLanes, error) {
	return s.takeOver(t), nil
}

func (s *Spool) takeOver(t mapping.Thing) *SpoolLanes {
	q := &SpoolLanes{spool: s, thing: t, wake: make(chan struct{}, 1), replaced: make(chan struct{})}
	s.taking.Lock()
	defer s.taking.Unlock()
	if before := s.takers[t]; before != nil {
		before.leave()
		close(before.replaced)
	}
	s.takers[t] = q
	for _, k := range mapping.Kinds {
		q.feeds[k] = s.lane(keyOf(t, k)).feedFor(t, q.wake)
	}
	return q
}

// feedFor makes a feed that begins with the oldest message that is not settled.
func (l *lane) feedFor(t mapping.Thing, wake chan struct{}) *feed {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &feed{lane: l, thing: t, ready: newTray(), wake: wake, last: l.floor}
	f.settleNext = f.settle
	l.feed = f
	return f
}

// leave gives the lanes back, with all that is not settled.
func (q *SpoolLanes) leave() {
	for _, f := range q.feeds {
		f.lane.mu.Lock()
		if f.lane.feed == f {
			f.end()
		}
		f.lane.mu.Unlock()
	}
}

// Lane is bridge.ThingLanes.
func (q *SpoolLanes) Lane(k mapping.Kind) bridge.Source { return q.feeds[k] }

// Run is bridge.ThingLanes.
func (q *SpoolLanes) Run(ctx context.Context) error {
	for _, f := range q.feeds {
		f.run(true)
		defer f.run(false)
	}
	for {
		for _, f := range q.feeds {
			f.read()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-q.replaced:
			return fmt.Errorf("queue of %s: %w", q.thing, bridge.ErrTakenOver)
		case <-q.wake:
		}
	}
}

// Flush is bridge.ThingLanes.
func (q *SpoolLanes) Flush(ctx context.Context) error { return q.spool.journal.Flush(ctx) }

// Oldest is bridge.ThingLanes.
func (q *SpoolLanes) Oldest() (at time.Time, waits bool) {
	for _, f := range q.feeds {
		if t, one := f.oldest(); one && (!waits || t.Before(at)) {
			at, waits = t, true
		}
	}
	return at, waits
}

func (f *feed) oldest() (at time.Time, waits bool) {
	f.lane.mu.Lock()
	defer f.lane.mu.Unlock()
	for _, h := range f.unsettled {
		if !h.lost {
			return h.at, true
		}
	}
	return time.Time{}, false
}

// Remove is bridge.ThingLanes.
func (q *SpoolLanes) Remove(context.Context) error {
	q.spool.taking.Lock()
	defer q.spool.taking.Unlock()
	if q.spool.takers[q.thing] == q {
		delete(q.spool.takers, q.thing)
		q.leave()
	}
	return nil
}
