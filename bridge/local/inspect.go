package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// What can be seen of a bridge from outside, without changing anything.

// Fill is how full a stream is.
type Fill struct {
	Stream   string
	Exists   bool
	Messages uint64
	Bytes    uint64
	MaxBytes int64 // as configured; 0: no limit
	Discards bool  // when full it forgets the oldest, else it refuses more
	Letters  bool  // it holds the dead letters
}

// Fills looks at the streams that a store with this configuration has, and asks the bridge of an embedded server for its
// queues. Nothing is created.
func Fills(ctx context.Context, nc *nats.Conn, cfg StoreConfig) ([]Fill, error) {
	js, err := wire.JetStream(nc)
	if err != nil {
		return nil, err
	}
	var out []Fill
	if cfg.Embedded {
		if out, err = askFills(ctx, nc, cfg.Subjects); err != nil {
			return nil, err
		}
	}
	for _, want := range cfg.streams(nc.MaxPayload()) {
		f := Fill{Stream: want.Name, MaxBytes: max(want.MaxBytes, 0), Discards: want.Discard == jetstream.DiscardOld, Letters: want.Name == cfg.Subjects.Name(wire.StreamDead)}
		stream, err := js.Stream(ctx, want.Name)
		switch {
		case err == nil:
			state := stream.CachedInfo().State
			f.Exists, f.Messages, f.Bytes = true, state.Msgs, state.Bytes
		case !errors.Is(err, jetstream.ErrStreamNotFound):
			return nil, fmt.Errorf("stream %s: %w", want.Name, err)
		}
		out = append(out, f)
	}
	return out, nil
}

// Wanted is how many bytes all streams of a store, and its journal, may hold together; 0: some have no limit.
func Wanted(cfg StoreConfig) uint64 {
	var all uint64
	if cfg.Embedded {
		if cfg.Up <= 0 {
			return 0
		}
		all = uint64(len(mapping.Classes)) * uint64(cfg.Up)
	}
	for _, want := range cfg.streams(1 << 20) {
		if want.MaxBytes <= 0 {
			return 0
		}
		all += uint64(want.MaxBytes)
	}
	return all
}

// StatusOf reads a Thing's entry of the status bucket, nil when there is none.
func StatusOf(ctx context.Context, nc *nats.Conn, subjects mapping.Subjects, t mapping.Thing) ([]byte, error) {
	js, err := wire.JetStream(nc)
	if err != nil {
		return nil, err
	}
	kv, err := js.KeyValue(ctx, subjects.Name(wire.BucketStatus))
	if err != nil {
		return nil, err
	}
	entry, err := kv.Get(ctx, mapping.Token(string(t)))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return entry.Value(), nil
}
