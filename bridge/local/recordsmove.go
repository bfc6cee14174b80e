package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/streams"
)

// takeOver moves what a bucket of an older version holds into the journal, before anybody asks for it; kept says which
// keys stay. A kill at any point costs nothing: what was moved is moved once more, and is the same.
func (r *records) takeOver(ctx context.Context, kept func(key string) bool) error {
	js, name := r.spool.store.js, r.spool.subjects.Name(r.name)
	kv, err := js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w", name, err)
	}
	moved, err := r.copyBucket(ctx, kv, kept)
	if err != nil {
		return fmt.Errorf("what bucket %s of an older version holds can't be moved into the journal: %w", name, err)
	}
	if len(moved) > 0 {
		r.spool.log.Info("what an older version remembered was moved into the journal", "bucket", name, "keys", len(moved))
	}
	if kept == nil {
		if err := js.DeleteKeyValue(ctx, name); err != nil && !errors.Is(err, jetstream.ErrBucketNotFound) {
			return fmt.Errorf("bucket %s: %w", name, err)
		}
		return nil
	}
	b := r.spool.store.bucket(r.name)
	for _, key := range moved {
		if err := b.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// copyBucket returns the keys that it has copied.
func (r *records) copyBucket(ctx context.Context, kv jetstream.KeyValue, kept func(key string) bool) (keys []string, err error) {
	g, bytes := &journal.Group{Urgent: true}, 0
	put := func() error {
		_, err := r.spool.journal.Append(ctx, g)
		g, bytes = &journal.Group{Urgent: true}, 0
		return err
	}
	err = streams.Entries(ctx, kv, []string{">"}, func(e jetstream.KeyValueEntry) error {
		if kept != nil && kept(e.Key()) {
			return nil
		}
		keys = append(keys, e.Key())
		g.Put(r.key(e.Key()), encodeRecord(e.Created(), e.Value()))
		if bytes += len(e.Value()) + recordCost; bytes < moveBytes {
			return nil
		}
		return put()
	})
	if err == nil {
		err = put()
	}
	return keys, err
}
