package ownership

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/cluster"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
)

// Get reads the last message of a subject as it is after all that this term knows to be stored. Any replica may answer;
// the answer says how far that one was, and one that lags is asked again.
func (f *Fence) Get(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		known := f.Newest()
		raw, upTo, err := streams.NewestOf(ctx, f.js.Conn(), f.stream, subject, f.subject)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", f.stream, err)
		}
		if cluster.Proves(upTo, known) {
			if raw == nil {
				return nil, jetstream.ErrMsgNotFound
			}
			return raw, nil
		}
		if err := f.lagging(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// lagging waits for a replica, or for the marker.
func (f *Fence) lagging(ctx context.Context, pause time.Duration) error {
	if err := flow.Sleep(ctx, pause); err != nil {
		return fmt.Errorf("stream %s: the replicas lag behind what is stored: %w", f.stream, err)
	}
	if pause < 32*time.Millisecond {
		return nil
	}
	return f.check(ctx)
}

// List calls each for what the stream, a bucket's, has under some keys, at least as it was when the term began. It asks
// replicas, as Get does: a consumer might be made on a server that stands still.
func (f *Fence) List(ctx context.Context, keys string, each func(key string, value []byte) error) error {
	_, root := f.bucket()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		try, cancel := context.WithTimeout(ctx, streams.AnswerTime)
		found, upTo, err := streams.Newest(try, f.js.Conn(), f.stream, root+keys, f.subject)
		cancel()
		if errors.Is(err, streams.ErrTooMany) {
			return f.listMany(ctx, keys, each)
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", f.stream, err)
		}
		if cluster.Proves(upTo, f.fencedAt()) {
			for _, m := range found {
				if m.Subject == f.subject || m.Header.Get(wire.HeaderOperation) != "" {
					continue
				}
				if err := each(m.Subject[len(root):], m.Data); err != nil {
					return err
				}
			}
			return nil
		}
		if err := f.lagging(ctx, pause); err != nil {
			return err
		}
	}
}

// listMany is List by a consumer, however many keys there are. The replica that the keys come from is as far as it has to be
// if the marker is among them.
func (f *Fence) listMany(ctx context.Context, keys string, each func(key string, value []byte) error) error {
	bucket, root := f.bucket()
	kv, err := f.js.KeyValue(ctx, bucket)
	if err != nil {
		return err
	}
	marker := f.subject[len(root):]
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		proved := false
		var found []jetstream.KeyValueEntry
		err := streams.Entries(ctx, kv, []string{keys, marker}, func(e jetstream.KeyValueEntry) error {
			if e.Key() == marker {
				proved = cluster.Proves(e.Revision(), f.fencedAt())
			} else {
				found = append(found, e)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if proved {
			for _, e := range found {
				if err := each(e.Key(), e.Value()); err != nil {
					return err
				}
			}
			return nil
		}
		if err := f.lagging(ctx, pause); err != nil {
			return err
		}
	}
}

// bucket is the name of the bucket that the stream holds, and what comes before a key in a subject.
func (f *Fence) bucket() (name, root string) {
	name = strings.TrimPrefix(f.stream, "KV_")
	return name, "$KV." + name + "."
}

func (f *Fence) fencedAt() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.marker
}
