package local

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/ownership"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
)

// bucket is a KV bucket as the core sees it. One that lives in memory is made again, empty, after its
// server has lost it.
type bucket struct {
	kv     jetstream.KeyValue
	js     jetstream.JetStream
	config jetstream.KeyValueConfig
	// leader answers gets where a replica may lag; nil: whoever is asked.
	leader   jetstream.Stream
	fence    *ownership.Fence // nil: nobody else writes
	troubles *troubles
	// made is called with one in memory after it was made anew.
	made func(context.Context, *bucket) error
}

var (
	_ bridge.State      = (*bucket)(nil)
	_ bridge.ShadowView = (*bucket)(nil)
)

// subject is where the server keeps a key.
func (b *bucket) subject(key string) string { return "$KV." + b.config.Bucket + "." + key }

func (b *bucket) PutNoted(ctx context.Context, key string, value, note []byte) error {
	return b.wrote(key, b.do(ctx, func(ctx context.Context) error {
		m := nats.NewMsg(b.subject(key))
		m.Data = value
		if note != nil {
			m.Header.Set(wire.HeaderNote, string(note))
		}
		return b.store(ctx, m)
	}))
}

// store puts what is no plain value.
func (b *bucket) store(ctx context.Context, m *nats.Msg) error {
	if b.fence != nil {
		return b.fence.Write(ctx, m)
	}
	_, err := b.js.PublishMsg(ctx, m)
	return err
}

func (b *bucket) GetNoted(ctx context.Context, key string) (value, note []byte, err error) {
	err = b.do(ctx, func(ctx context.Context) error {
		from := b.leader
		if from == nil && b.fence == nil {
			if from, err = b.js.Stream(ctx, "KV_"+b.config.Bucket); err != nil {
				return err
			}
		}
		m, err := b.last(ctx, from, key)
		if err != nil {
			return err
		}
		value = m.Data
		if text := m.Header.Get(wire.HeaderNote); text != "" {
			note = []byte(text)
		}
		return nil
	})
	return value, note, b.wrap(key, err)
}

func (b *bucket) Get(ctx context.Context, key string) ([]byte, error) {
	var value []byte
	err := b.do(ctx, func(ctx context.Context) (err error) {
		value, err = b.get(ctx, key)
		return err
	})
	return value, b.wrap(key, err)
}

func (b *bucket) get(ctx context.Context, key string) ([]byte, error) {
	if b.leader == nil && b.fence == nil {
		entry, err := b.kv.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		return entry.Value(), nil
	}
	raw, err := b.last(ctx, b.leader, key)
	if err != nil {
		return nil, err
	}
	return raw.Data, nil
}

// last reads the message that holds a key.
func (b *bucket) last(ctx context.Context, from jetstream.Stream, key string) (*jetstream.RawStreamMsg, error) {
	var raw *jetstream.RawStreamMsg
	var err error
	if b.fence != nil {
		raw, err = b.fence.Get(ctx, b.subject(key))
	} else {
		raw, err = from.GetLastMsgForSubject(ctx, b.subject(key))
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && raw.Header.Get(wire.HeaderOperation) != "" { // a deletion
		return nil, jetstream.ErrKeyNotFound
	}
	return raw, err
}

func (b *bucket) Put(ctx context.Context, key string, value []byte) error {
	return b.wrote(key, b.do(ctx, func(ctx context.Context) error {
		if b.fence != nil {
			m := nats.NewMsg(b.subject(key))
			m.Data = value
			return b.fence.Write(ctx, m)
		}
		_, err := b.kv.Put(ctx, key, value)
		return err
	}))
}

func (b *bucket) Create(ctx context.Context, key string, value []byte) error {
	return b.wrote(key, b.do(ctx, func(ctx context.Context) error { _, err := b.kv.Create(ctx, key, value); return err }))
}

// Delete leaves a mark where marks expire, and nothing where they would pile up.
func (b *bucket) Delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, streams.AnswerTime)
	defer cancel()
	if b.fence != nil {
		m := nats.NewMsg(b.subject(key))
		m.Header.Set(wire.HeaderOperation, "DEL")
		if err := b.fence.Write(ctx, m); err != nil || b.config.TTL > 0 {
			return b.wrote(key, err)
		}
		// What is removed now was no value any more, whoever is the owner.
	} else if b.config.TTL > 0 { // and so the marks of deleted keys go by themselves
		return b.wrote(key, b.kv.Delete(ctx, key))
	}
	stream, err := b.js.Stream(ctx, "KV_"+b.config.Bucket)
	if err != nil {
		return b.wrap(key, err)
	}
	options := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSubject(b.subject(key))}
	if b.fence != nil {
		options = append(options, jetstream.WithPurgeSequence(b.fence.Newest()+1))
	}
	return b.wrote(key, stream.Purge(ctx, options...))
}

// do tries once more when the bucket was lost.
func (b *bucket) do(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, streams.AnswerTime)
	defer cancel()
	err := f(ctx)
	lost := errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, jetstream.ErrStreamNotFound)
	if b.config.Storage != jetstream.MemoryStorage || !lost {
		return err
	}
	if _, made := b.js.CreateOrUpdateKeyValue(ctx, b.config); made != nil {
		return errors.Join(err, made)
	}
	if b.made != nil {
		if made := b.made(ctx, b); made != nil {
			return errors.Join(err, made)
		}
	}
	return f(ctx)
}

func (b *bucket) List(ctx context.Context, prefix string, f func(key string, value []byte) error) error {
	if b.fence != nil {
		return b.wrap(prefix+">", b.fence.List(ctx, prefix+">", f))
	}
	var ended error // f's, which is not the bucket's
	err := streams.Entries(ctx, b.kv, []string{prefix + ">"}, func(e jetstream.KeyValueEntry) error {
		ended = f(e.Key(), e.Value())
		return ended
	})
	if ended != nil || ctx.Err() != nil {
		return err
	}
	return b.wrap(prefix+">", err)
}

// wrote is wrap for a write, whose failure the store's health knows of.
func (b *bucket) wrote(key string, err error) error {
	b.troubles.wrote(b.config.Bucket, err)
	return b.wrap(key, err)
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
	case errors.Is(err, nats.ErrMaxPayload), wire.APICode(err) == wire.CodeTooLarge:
		return fmt.Errorf("bucket %s, key %s: %w: %w", b.kv.Bucket(), key, bridge.ErrTooLarge, err)
	}
	return fmt.Errorf("bucket %s, key %s: %w", b.kv.Bucket(), key, err)
}

// revisionKey is where the first revision of the bucket in memory is noted.
const revisionKey = "=revision"

// revisionStep is more than one life of the bucket uses up while the clock stands still, or is set back.
const revisionStep = 1 << 32

// renumber lets the revisions of the bucket in memory grow across its lives: whoever watches it asks for what is
// newer than the last revision that it saw, and would hear nothing of a bucket that begins at 1 again. They begin at
// the time, in microseconds, so they stay below 2^53, which JavaScript can count to.
func (s *Store) renumber(ctx context.Context, b *bucket) error {
	stream, err := s.js.Stream(ctx, "KV_"+b.config.Bucket)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", b.config.Bucket, err)
	}
	if stream.CachedInfo().State.LastSeq > 0 {
		return nil // it has lived on
	}
	marks, next := s.bucket(wire.BucketMarks), uint64(time.Now().UnixMicro())
	was, err := marks.Get(ctx, revisionKey)
	if err != nil && !errors.Is(err, bridge.ErrNotFound) {
		return err
	}
	if last, err := strconv.ParseUint(string(was), 10, 64); err == nil && last < 1<<53 {
		next = max(next, last+revisionStep)
	}
	if err := marks.Put(ctx, revisionKey, strconv.AppendUint(nil, next, 10)); err != nil {
		return err
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(next)); err != nil {
		return fmt.Errorf("bucket %s: %w", b.config.Bucket, err)
	}
	return nil
}
