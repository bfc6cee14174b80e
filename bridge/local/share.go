package local

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/ownership"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Share is what the owner of a shard writes of its Things: the store's streams and buckets, which take each write only
// while the shard's marker is the term's.
type Share struct {
	store   *Store
	term    *ownership.Term
	down    *ownership.Fence
	toDown  *publisher
	buckets map[string]*bucket
}

// Own puts the term's markers into all streams, and so ends what an earlier owner writes there. What is read of the share
// is not older than that.
func (s *Store) Own(ctx context.Context, t *ownership.Term) (*Share, error) {
	out := &Share{store: s, term: t, buckets: map[string]*bucket{}}
	var raising sync.WaitGroup
	var mu sync.Mutex
	var failed error
	raise := func(stream, subject string, use func(*ownership.Fence)) {
		raising.Go(func() {
			f, err := ownership.NewFence(ctx, t, s.js, stream, subject)
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
			use(f)
		})
	}
	raise(s.cfg.Subjects.Name(wire.StreamDown), downMarker(s.cfg.Subjects, strconv.Itoa(t.Shard)), func(f *ownership.Fence) { out.down = f })
	for name, b := range s.buckets {
		if b.config.Storage == jetstream.MemoryStorage {
			continue
		}
		raise("KV_"+b.config.Bucket, b.subject(markerKey(t.Shard)), func(f *ownership.Fence) {
			own := *b
			own.fence = f
			out.buckets[name] = &own
		})
	}
	if raising.Wait(); failed != nil {
		return nil, failed
	}
	out.toDown = s.publisher(out.what(), s.down, out.down)
	return out, nil
}

func (s *Share) what() string { return "down, shard " + strconv.Itoa(s.term.Shard) }

// Close drops what is not stored; see Store.Close.
func (s *Share) Close() {
	s.toDown.close()
	s.store.troubles.note(s.what(), "")
}

func (s *Share) bucket(name string) *bucket { return s.buckets[s.store.cfg.Subjects.Name(name)] }

// What follows is the store's, fenced.

func (s *Share) Down() bridge.Sink         { return &downSink{s.toDown, s.store.cfg.Subjects} }
func (s *Share) Shadow() bridge.ShadowView { return s.bucket(wire.BucketShadow) }
func (s *Share) Executions() bridge.State  { return s.bucket(wire.BucketExecutions) }
func (s *Share) Leases() bridge.State      { return s.bucket(wire.BucketLeases) }
func (s *Share) Marks() bridge.State       { return s.bucket(wire.BucketMarks) }

// Last is bridge.Archive.
func (s *Share) Last(ctx context.Context, a mapping.Address) (bridge.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.AnswerTime)
	defer cancel()
	return s.store.lastOf(a, func(subject string) (*jetstream.RawStreamMsg, error) { return s.down.Get(ctx, subject) })
}

// Status is not fenced. It says nothing of Things that may be another bridge's by now.
func (s *Share) Status() bridge.StatusView { return ownStatus{s.store.Status(), s.term} }

type ownStatus struct {
	bridge.StatusView
	term *ownership.Term
}

func (s ownStatus) Put(ctx context.Context, key string, value []byte) error {
	if !s.term.Holds() {
		return nil
	}
	return s.StatusView.Put(ctx, key, value)
}

func (s ownStatus) Delete(ctx context.Context, key string) error {
	if !s.term.Holds() {
		return nil
	}
	return s.StatusView.Delete(ctx, key)
}

var _ bridge.Archive = (*Share)(nil)

// markerKey is no token of a Thing: "=" begins an escape there.
func markerKey(shard int) string { return "=epoch." + strconv.Itoa(shard) }

// Marked returns the newest epoch of all markers that owners of shards have put into the streams; 0: there is none.
func Marked(ctx context.Context, nc *nats.Conn, c StoreConfig) (newest uint64, err error) {
	js, err := wire.JetStream(nc)
	if err != nil {
		return 0, err
	}
	for shard := range c.Shards {
		markers := map[string]string{c.Subjects.Name(wire.StreamDown): downMarker(c.Subjects, strconv.Itoa(shard))}
		for _, b := range c.buckets() {
			if b.Storage != jetstream.MemoryStorage {
				markers["KV_"+b.Bucket] = "$KV." + b.Bucket + "." + markerKey(shard)
			}
		}
		for stream, subject := range markers {
			epoch, err := ownership.Marked(ctx, js, stream, subject)
			if err != nil {
				return 0, err
			}
			newest = max(newest, epoch)
		}
	}
	return newest, nil
}
