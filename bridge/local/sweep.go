package local

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/internal/flow"
)

// sweep removes from the streams what is settled. A lane's messages go in order, so what a kill leaves of a lane is all
// behind a point. What is settled and not yet removed then comes again: that of the last tenth of a second.
type sweep struct {
	lanes *streamLanes
	wake  chan struct{}

	mu  sync.Mutex
	due map[*lane]*owed
}

// owed is what a lane has settled since the last time.
type owed struct {
	floor uint64
	few   []uint64 // what is to be removed, as long as that is little
	many  bool     // it is more
}

const (
	sweepRest = 50 * time.Millisecond
	// fewMost messages of a lane are removed one by one, more with one purge: that looks at each message of the stream's
	// newest file, at least.
	fewMost = 4
)

// settle is a keeper's.
func (u *streamLanes) settle(l *lane, floor uint64) {
	w := &u.sweep
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.due[l]
	if d == nil {
		d = &owed{}
		w.due[l] = d
	}
	if d.many = d.many || len(d.few) == fewMost || floor <= d.floor; !d.many {
		d.few = append(d.few, floor)
	}
	d.floor = floor
	flow.Signal(w.wake)
}

// run sweeps until ctx ends.
func (w *sweep) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		if flow.Sleep(ctx, sweepRest) != nil {
			return
		}
		w.mu.Lock()
		all := w.due
		w.due = map[*lane]*owed{}
		w.mu.Unlock()
		var work sync.WaitGroup
		for l, d := range all {
			work.Go(func() {
				if !w.remove(ctx, l, d) {
					w.again(l, d)
				}
			})
		}
		work.Wait()
	}
}

// again notes what could not be removed.
func (w *sweep) again(l *lane, d *owed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := w.due[l]; now != nil {
		now.many = true
		return
	}
	d.many = true
	w.due[l] = d
	flow.Signal(w.wake)
}

// remove removes what a lane has settled. It reports whether that is done.
func (w *sweep) remove(ctx context.Context, l *lane, d *owed) bool {
	in := w.lanes.flows[l.of.kind.Class()]
	floor, ok := l.sweepable()
	if !ok || !in.certain() {
		return false
	}
	d.many = d.many || floor < d.floor
	floor = min(floor, d.floor)
	stream := &w.lanes.store.up[in.class]
	err := w.lanes.ask(ctx, w.lanes.drops, func(ctx context.Context) error {
		if !d.many {
			for _, seq := range d.few {
				if err := stream.DeleteMsg(ctx, seq); err != nil {
					d.many = true
					break
				}
			}
		}
		if d.many {
			return stream.Purge(ctx, jetstream.WithPurgeSubject(w.lanes.filter(l)), jetstream.WithPurgeSequence(floor+1))
		}
		return nil
	})
	if err != nil {
		if ctx.Err() == nil {
			w.lanes.log.Debug("what is settled can't be removed from the stream now, trying again", "stream", in.name, "thing", l.thing(), "error", err)
			in.doubts(restored) // the server may have been away, and have lost its end
		}
		return false
	}
	l.mu.Lock()
	l.swept = max(l.swept, min(floor, l.floor))
	l.mu.Unlock()
	return true
}

// flush is a keeper's.
func (u *streamLanes) flush(ctx context.Context, lanes []*lane) error {
	for _, l := range lanes {
		for {
			l.mu.Lock()
			floor, swept := l.floor, l.swept
			l.mu.Unlock()
			if floor <= swept || u.sweep.remove(ctx, l, &owed{floor: floor, many: true}) {
				break
			}
			if err := flow.Sleep(ctx, sweepRest); err != nil {
				return fmt.Errorf("stream %s: %w", u.flows[l.of.kind.Class()].name, err)
			}
		}
	}
	return nil
}
