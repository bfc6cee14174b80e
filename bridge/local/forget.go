package local

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// forgetter has a stream forget what its queues have settled. The server syncs the disk for every single
// acknowledgement, so instead all that is settled is purged at once, up to the first message of any Thing
// that is not: while one purge is under way, what is settled meanwhile gathers for the next. Where one Thing
// holds the others up, each of them is purged by itself.
type forgetter struct {
	stream   jetstream.Stream
	handover *handover
	working  func() context.Context // over while the server can't be asked
	over     context.Context        // of the forgetter
	end      context.CancelFunc
	work     sync.WaitGroup

	purging chan struct{} // full while a purge for all is under way

	mu    sync.Mutex
	dirty []*Queue // with something settled that the stream has
	more  chan struct{}
}

var errRestarting = errors.New("JetStream is being started again")

// A purge holds its stream up while it syncs, so purging takes a fifth of the time at most, and happens a hundred
// times a second at most: one that leaves the stream empty makes its files anew. A Thing that
// another one holds up waits for that one a while; then a purge of its own costs the server less than what the
// stream would grow by.
const (
	forgetPause  = time.Second // after a purge that failed
	forgetShare  = 5
	forgetLeast  = 10 * time.Millisecond  // between two purges
	forgetRest   = 100 * time.Millisecond // at most
	forgetLinger = time.Second
)

func newForgetter(stream jetstream.Stream, h *handover, working func() context.Context) *forgetter {
	f := &forgetter{stream: stream, handover: h, working: working, purging: make(chan struct{}, 1), more: make(chan struct{}, 1)}
	f.over, f.end = context.WithCancel(context.Background())
	f.work.Go(f.run)
	return f
}

// add is told of a queue that may have settled more. It keeps the queue until the stream has forgotten it.
func (f *forgetter) add(q *Queue) {
	q.mu.Lock()
	tell := q.dirtyAt.IsZero() && q.done() > max(q.forgotten, f.handover.purged.Load())
	if tell {
		q.dirtyAt = time.Now()
	}
	q.mu.Unlock()
	if !tell {
		return
	}
	f.mu.Lock()
	f.dirty = append(f.dirty, q)
	f.mu.Unlock()
	signal(f.more)
}

func (f *forgetter) run() {
	var all []*Queue
	for {
		select {
		case <-f.over.Done():
			return
		case <-f.more:
		}
		f.mu.Lock()
		all, f.dirty = f.dirty, all[:0]
		f.mu.Unlock()
		all = slices.DeleteFunc(all, f.lets) // before the purge, so that what is settled later counts for the next
		before := f.handover.purged.Load()
		if !f.turn(f.purge) {
			return
		}
		moved, left := f.handover.purged.Load() > before, false
		for _, q := range all {
			since := f.clean(q)
			if !since.IsZero() && time.Since(since) >= forgetLinger {
				if !f.turn(func(ctx context.Context) error { return f.purgeOne(ctx, q) }) {
					return
				}
				moved, since = true, f.clean(q)
			}
			if !since.IsZero() {
				left = true
				f.again(q)
			}
		}
		clear(all)
		if left && !moved && !f.pause(forgetRest) {
			return
		}
	}
}

// turn runs one purge and rests after it. It tells whether to go on.
func (f *forgetter) turn(purge func(context.Context) error) bool {
	began := time.Now()
	ctx, cancel := context.WithTimeout(f.over, apiTimeout)
	err := purge(ctx)
	cancel()
	rest := min(max((forgetShare-1)*time.Since(began), forgetLeast), forgetRest)
	if err != nil {
		rest = forgetPause
	}
	return f.pause(rest)
}

// pause tells whether to go on.
func (f *forgetter) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-f.over.Done():
		return false
	case <-t.C:
		return true
	}
}

// lets tells that a queue can't be purged by itself now. It is told of again when more of it is settled, or may be
// purged.
func (f *forgetter) lets(q *Queue) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.purgeable() {
		return false
	}
	q.dirtyAt = time.Time{}
	return true
}

// clean tells since when a queue has had something to forget; the zero time when it has nothing any more.
func (f *forgetter) clean(q *Queue) time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.done() <= max(q.forgotten, f.handover.purged.Load()) {
		q.dirtyAt = time.Time{}
	}
	return q.dirtyAt
}

// again keeps a queue for the next turn.
func (f *forgetter) again(q *Queue) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty = append(f.dirty, q)
	signal(f.more)
}

// forget returns when the stream has forgotten what the queue had settled before.
func (f *forgetter) forget(ctx context.Context, q *Queue) error {
	if err := f.purge(ctx); err != nil {
		return err
	}
	return f.purgeOne(ctx, q)
}

// purge removes what is settled of all Things.
func (f *forgetter) purge(ctx context.Context) error {
	select {
	case f.purging <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-f.purging }()
	before := f.handover.purged.Load()
	floor, era := f.handover.settledIn()
	if floor = f.handover.told.reach(floor); f.handover.told.damaged() {
		signal(f.handover.gap) // the intake empties the stream as soon as it can
	}
	if floor <= before {
		return nil
	}
	if err := f.still(era); err != nil {
		return err
	}
	if err := f.stream.Purge(ctx, jetstream.WithPurgeSequence(floor+1)); err != nil {
		return err
	}
	f.handover.purged.CompareAndSwap(before, floor) // else the sequences count from anew
	return nil
}

// still makes sure that the server has not lost since what an era's sequences stood for: they could be others'.
func (f *forgetter) still(era context.Context) error {
	working := f.working()
	if working.Err() != nil {
		return errRestarting
	}
	if working != era {
		signal(f.handover.gap)
		return errRestarting
	}
	return nil
}

// purgeOne removes what a queue has settled beyond that, unless there may be something damaged among it.
func (f *forgetter) purgeOne(ctx context.Context, q *Queue) error {
	era := f.handover.current() // before the floor
	q.mu.Lock()
	floor := q.floor
	done := floor <= max(q.forgotten, f.handover.purged.Load()) || !q.purgeable()
	q.mu.Unlock()
	if done {
		return nil
	}
	if err := f.still(era); err != nil {
		return err
	}
	if err := f.stream.Purge(ctx, jetstream.WithPurgeSubject(q.all), jetstream.WithPurgeSequence(floor+1)); err != nil {
		return err
	}
	q.mu.Lock()
	if q.floor >= floor { // else the sequences count from anew
		q.forgotten = max(q.forgotten, floor)
	}
	if !q.dirtyAt.IsZero() {
		q.dirtyAt = time.Now()
	}
	q.mu.Unlock()
	return nil
}

func (f *forgetter) close() {
	f.end()
	f.work.Wait()
}
