package local

import (
	"context"
	"sync"
	"time"

	"fleetbridge/mapping"
)

// A queue whose stream only the intake writes to sleeps while it is empty: it has no consumer then, which
// costs the server more memory than all the rest of a Thing. The intake wakes it. Without an intake nobody
// could, and the consumer stays.

// sleepers are the queues of one class, by the Thing's token.
type sleepers struct {
	mu     sync.Mutex
	queues map[string]*Queue
	early  map[string]bool // has messages, and no queue yet
}

func newSleepers() *sleepers {
	return &sleepers{queues: map[string]*Queue{}, early: map[string]bool{}}
}

// add puts a queue in the place of the one before, and tells whether messages may wait for it.
func (s *sleepers) add(q *Queue) (early bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := mapping.Token(string(q.thing))
	early = s.early[token] || s.queues[token] != nil
	delete(s.early, token)
	s.queues[token] = q
	return early
}

// remove takes out a queue that has ended; what it has not settled is for the next one.
func (s *sleepers) remove(q *Queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token := mapping.Token(string(q.thing)); s.queues[token] == q {
		delete(s.queues, token)
		s.early[token] = !q.asleep
	}
}

// wake tells a Thing's queue that the stream has messages for it.
func (s *sleepers) wake(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[token]; q != nil {
		signal(q.wake)
	} else {
		s.early[token] = true
	}
}

// sleep waits for a message, and makes the consumer for it. It returns an error like rebuild.
func (q *Queue) sleep(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-q.wake:
	}
	q.asleep = false
	making, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	err := q.create(making)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	q.log.Warn("the queue's consumer can't be made, trying again", "error", err)
	return q.rebuild(ctx)
}

// doze removes the consumer when nothing is left for it. What is stored from now on wakes the queue; what
// was stored before is seen here.
func (q *Queue) doze(ctx context.Context) bool {
	select {
	case <-q.wake:
	default:
	}
	q.mu.Lock()
	busy := len(q.unsettled) > 0
	q.mu.Unlock()
	if busy || q.ready.len() > 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	c, err := q.stream.Consumer(ctx, q.consumer)
	if err != nil {
		return false
	}
	info := c.CachedInfo()
	if info.Config.Metadata[metaOwner] != q.owner || info.NumPending > 0 || info.NumAckPending > 0 {
		return false
	}
	if err := q.stream.DeleteConsumer(ctx, q.consumer); err != nil {
		return false
	}
	q.mu.Lock()
	q.settled = "" // the stream knows
	q.mu.Unlock()
	q.asleep = true
	return true
}

// sleepAfter is how long nothing came before a queue tries to sleep.
const sleepAfter = time.Minute
