package local

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
)

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
