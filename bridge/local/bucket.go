package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
)

// bucket is a KV bucket as the core sees it. One that lives in memory is made again, empty, after its
// server has lost it.
type bucket struct {
	kv     jetstream.KeyValue
	js     jetstream.JetStream
	config jetstream.KeyValueConfig
}

var _ bridge.Bucket = (*bucket)(nil)

func (b *bucket) Get(ctx context.Context, key string) ([]byte, error) {
	var value []byte
	err := b.do(ctx, func(ctx context.Context) error {
		entry, err := b.kv.Get(ctx, key)
		if err == nil {
			value = entry.Value()
		}
		return err
	})
	return value, b.wrap(key, err)
}

func (b *bucket) Put(ctx context.Context, key string, value []byte) error {
	return b.wrap(key, b.do(ctx, func(ctx context.Context) error { _, err := b.kv.Put(ctx, key, value); return err }))
}

func (b *bucket) Create(ctx context.Context, key string, value []byte) error {
	return b.wrap(key, b.do(ctx, func(ctx context.Context) error { _, err := b.kv.Create(ctx, key, value); return err }))
}

// Delete leaves a mark where marks expire, and nothing where they would pile up.
func (b *bucket) Delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if b.config.TTL > 0 { // and so the marks of deleted keys go by themselves
		return b.wrap(key, b.kv.Delete(ctx, key))
	}
	name := b.kv.Bucket()
	stream, err := b.js.Stream(ctx, "KV_"+name)
	if err != nil {
		return b.wrap(key, err)
	}
	return b.wrap(key, stream.Purge(ctx, jetstream.WithPurgeSubject("$KV."+name+"."+key)))
}

// answerTime is how long an answer may take before the try counts as failed: the answer may have gone
// down with a connection. Whoever asked asks again, and every change may be made twice.
const answerTime = 5 * time.Second

// do tries once more when the bucket was lost.
func (b *bucket) do(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	err := f(ctx)
	lost := errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, jetstream.ErrStreamNotFound)
	if b.config.Storage != jetstream.MemoryStorage || !lost {
		return err
	}
	if _, made := b.js.CreateOrUpdateKeyValue(ctx, b.config); made != nil {
		return errors.Join(err, made)
	}
	return f(ctx)
}

func (b *bucket) List(ctx context.Context, prefix string, f func(key string, value []byte) error) error {
	watch, err := b.kv.Watch(ctx, prefix+">", jetstream.IgnoreDeletes())
	if err != nil {
		return b.wrap(prefix+">", err)
	}
	defer func() { _ = watch.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, ok := <-watch.Updates():
			if !ok {
				return b.wrap(prefix+">", errors.New("the watch ended early"))
			}
			if entry == nil { // all that was there has been told
				return nil
			}
			if err := f(entry.Key(), entry.Value()); err != nil {
				return err
			}
		}
	}
}

// wrap turns the library's errors into the core's.
func (b *bucket) wrap(key string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return bridge.ErrNotFound
	case errors.Is(err, jetstream.ErrKeyExists):
		return bridge.ErrExists
	}
	return fmt.Errorf("bucket %s, key %s: %w", b.kv.Bucket(), key, err)
}
