package local

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// forgetter has a stream forget what its queues have settled. The server syncs the disk for every single
// acknowledgement, so instead all that a Thing has settled is purged at once, up to the first message that
// is not: while one purge is under way, what is settled meanwhile gathers for the next.
type forgetter struct {
	working func() context.Context // over while the server can't be asked
	ended   chan struct{}
	work    sync.WaitGroup
	once    sync.Once

	mu    sync.Mutex
	dirty []*Queue // with something settled that the stream has
	more  chan struct{}
}

var errRestarting = errors.New("JetStream is being started again")

// forgetPause is how long a purge that failed waits for the next try. A purge holds its stream up while it
// syncs, so purging takes a fifth of the time at most: with many Things more gathers for each.
const (
	forgetPause = time.Second
	forgetShare = 5
	forgetRest  = 100 * time.Millisecond // at most
)

func newForgetter(working func() context.Context) *forgetter {
	f := &forgetter{working: working, ended: make(chan struct{}), more: make(chan struct{}, 1)}
	f.work.Go(f.run)
	return f
}

// add is told of a queue that may have settled more. It keeps the queue until it turns to it.
func (f *forgetter) add(q *Queue) {
	q.mu.Lock()
	tell := q.floor > q.forgotten && !q.dirty
	q.dirty = q.dirty || tell
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
		case <-f.ended:
			return
		case <-f.more:
		}
		f.mu.Lock()
		all, f.dirty = f.dirty, all[:0]
		f.mu.Unlock()
		for _, q := range all {
			q.mu.Lock()
			q.dirty = false
			q.mu.Unlock()
			began := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
			err := f.forget(ctx, q)
			cancel()
			if err == nil {
				if !f.pause(min((forgetShare-1)*time.Since(began), forgetRest)) {
					return
				}
				continue
			}
			q.log.Debug("what is settled can't be removed now", "error", err)
			if !f.pause(forgetPause) {
				return
			}
			f.add(q)
		}
		clear(all)
	}
}

// pause tells whether to go on.
func (f *forgetter) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-f.ended:
		return false
	case <-t.C:
		return true
	}
}

// forget returns when the stream has forgotten what the queue had settled before.
func (f *forgetter) forget(ctx context.Context, q *Queue) error {
	if f.working().Err() != nil {
		return errRestarting
	}
	q.mu.Lock()
	floor := q.floor
	done := floor <= q.forgotten
	q.mu.Unlock()
	if done {
		return nil
	}
	if err := q.stream.Purge(ctx, jetstream.WithPurgeSubject(q.all), jetstream.WithPurgeSequence(floor+1)); err != nil {
		return err
	}
	q.mu.Lock()
	q.forgotten = max(q.forgotten, floor)
	q.mu.Unlock()
	return nil
}

func (f *forgetter) close() {
	f.once.Do(func() { close(f.ended) })
	f.work.Wait()
}

// settle takes a message out of what is unsettled, and raises the floor to the last message before which
// everything that was handed out is settled.
func (q *Queue) settle(seq uint64) {
	q.mu.Lock()
	full := q.nearlyFull()
	delete(q.unsettled, seq)
	for len(q.handed) > 0 {
		if _, open := q.unsettled[q.handed[0]]; open {
			break
		}
		q.floor = q.handed[0]
		q.handed = q.handed[1:]
	}
	q.mu.Unlock()
	q.forgetter.add(q)
	if full {
		signal(q.ready.room)
	}
}
