// Package registry has the Things that are added at run time, for bridges on an external NATS server: the bucket FLEETS_THINGS,
// and the question to all bridges how their Things stand.
package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// bucketThings has the Things that were added at run time, for bridges on an external NATS server. It is made when the
// first one is added.
const bucketThings = "THINGS"

// maxRegistryEntry is the size of an entry, a Thing of a configuration.
const maxRegistryEntry = 64 << 10

// Entry is a Thing in the registry, not checked.
type Entry struct {
	Key   string // the Thing's token, if somebody who knows has written it
	Value []byte // a member of things: in a configuration, as YAML or JSON
}

// Registry follows the bucket FLEETS_THINGS, and changes it. It is one goroutine's.
type Registry struct {
	js       jetstream.JetStream
	bucket   string
	replicas int

	made time.Time         // when the bucket was made that this was read from; zero: there was none
	read uint64            // up to this change
	kept map[string][]byte // by key; nil: it was removed
}

// New opens the registry. replicas is what a bucket has that it makes.
func New(nc *nats.Conn, subjects mapping.Subjects, replicas int) (*Registry, error) {
	js, err := wire.JetStream(nc)
	return &Registry{js: js, bucket: subjects.Name(bucketThings), replicas: replicas, kept: map[string][]byte{}}, err
}

// Name is that of the bucket.
func (r *Registry) Name() string { return r.bucket }

// Revision is the number of the newest change that Follow has read; 0: there was none.
func (r *Registry) Revision() uint64 { return r.read }

// Entries are those that Follow has read, by key.
func (r *Registry) Entries() (out []Entry) {
	for _, key := range slices.Sorted(maps.Keys(r.kept)) {
		if value := r.kept[key]; value != nil {
			out = append(out, Entry{key, value})
		}
	}
	return out
}

// Follow reads what has changed since the last call, and reports whether anything has. It needs no consumer, so it works
// whatever happens to NATS servers in between. After an error the next call goes on.
func (r *Registry) Follow(ctx context.Context) (changed bool, err error) {
	stream, err := r.js.Stream(ctx, "KV_"+r.bucket)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		changed = len(r.kept) > 0
		r.forget(time.Time{})
		return changed, nil
	}
	if err != nil {
		return false, fmt.Errorf("bucket %s: %w", r.bucket, err)
	}
	info := stream.CachedInfo()
	info.Config.AllowDirect = false // the leader is asked, which has every change that was acknowledged
	if !info.Created.Equal(r.made) || info.State.LastSeq < r.read || info.State.LastSeq == r.read && info.State.NumSubjects != uint64(len(r.kept)) {
		changed = len(r.kept) > 0
		r.forget(info.Created) // it was made anew, or emptied
	}
	prefix := "$KV." + r.bucket + "."
	for r.read < info.State.LastSeq {
		m, err := stream.GetMsg(ctx, r.read+1, jetstream.WithGetMsgSubject(prefix+">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) { // the rest was removed meanwhile
			r.read = info.State.LastSeq
			break
		}
		if err != nil {
			return changed, fmt.Errorf("bucket %s: %w", r.bucket, err)
		}
		value := slices.Clip(append([]byte{}, m.Data...))
		if m.Header.Get(wire.HeaderOperation) != "" {
			value = nil
		}
		r.kept[strings.TrimPrefix(m.Subject, prefix)] = value
		r.read, changed = m.Sequence, true
	}
	return changed, nil
}

func (r *Registry) forget(made time.Time) { r.made, r.read, r.kept = made, 0, map[string][]byte{} }

// open makes the bucket if it is not there.
func (r *Registry) open(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := r.js.KeyValue(ctx, r.bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return streams.EnsureBucket(ctx, r.js, &jetstream.KeyValueConfig{Bucket: r.bucket, Description: "Things that were added at run time",
			History: 1, Replicas: max(r.replicas, 1), MaxValueSize: maxRegistryEntry, MaxBytes: streams.BucketBytes})
	}
	return kv, err
}

// registryWriters is how many entries are written at a time: each waits for a majority of the servers.
const registryWriters = 16

// Put writes entries, and returns the number of the newest change. Without replace an entry that is there already is an
// error that is bridge.ErrExists; others may have been written then.
func (r *Registry) Put(ctx context.Context, entries []Entry, replace bool) (uint64, error) {
	kv, err := r.open(ctx)
	if err != nil {
		return 0, err
	}
	type written struct {
		revision uint64
		err      error
	}
	var newest uint64
	var errs []error
	for _, w := range flow.Each(entries, registryWriters, func(e Entry) (w written) {
		if replace {
			w.revision, w.err = kv.Put(ctx, e.Key, e.Value)
		} else {
			w.revision, w.err = kv.Create(ctx, e.Key, e.Value)
		}
		w.err = r.failed(e.Key, w.err)
		return w
	}) {
		newest, errs = max(newest, w.revision), append(errs, w.err)
	}
	return newest, errors.Join(errs...)
}

// Remove removes entries, and returns the number of the newest change.
func (r *Registry) Remove(ctx context.Context, keys []string) (uint64, error) {
	kv, err := r.open(ctx)
	if err != nil {
		return 0, err
	}
	errs := flow.Each(keys, registryWriters, func(key string) error { return r.failed(key, kv.Delete(ctx, key)) })
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	status, err := r.js.Stream(ctx, "KV_"+r.bucket)
	if err != nil {
		return 0, err
	}
	return status.CachedInfo().State.LastSeq, nil
}

// failed says with which key something went wrong, if it did.
func (r *Registry) failed(key string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		err = bridge.ErrExists
	}
	return fmt.Errorf("bucket %s: %s: %w", r.bucket, key, err)
}
