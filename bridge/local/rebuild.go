package local

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// rebuild makes the consumer anew unless it is another's, and tries until that works.
func (q *Queue) rebuild(ctx context.Context) error {
	// A question that goes down with the connection is never answered, so patience begins small; but a
	// server that has thousands of consumers to make needs more.
	patience := 2 * time.Second
	for pause := backoffMin; ; pause = min(2*pause, backoffMax) {
		err := q.remake(ctx, patience)
		if err == nil || errors.Is(err, ErrTakenOver) {
			return err
		}
		q.log.Debug("the queue's consumer can't be made now", "error", err)
		if sleep(ctx, pause) != nil {
			return nil
		}
		patience = min(2*patience, apiTimeout)
	}
}

func (q *Queue) remake(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	q.naming.Lock()
	defer q.naming.Unlock()
	if q.over() {
		return q.takenOver()
	}
	stream, err := q.store.js.Stream(ctx, q.stream.CachedInfo().Config.Name)
	if err != nil {
		return err
	}
	have, err := stream.Consumer(ctx, q.consumer)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
	case err != nil:
		return err
	case have.CachedInfo().Config.Metadata[metaOwner] != q.owner:
		return q.takenOver()
	default:
		if err := stream.DeleteConsumer(ctx, q.consumer); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return err
		}
	}
	if created := stream.CachedInfo().Created; !created.Equal(q.created) { // another stream of the same name
		q.created = created
		q.restart()
	}
	return q.create(ctx)
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
