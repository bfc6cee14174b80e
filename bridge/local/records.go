package local

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/journal"
)

// records is bridge.State with the embedded server: what the bridge must remember, in the journal of its spool. Each sort
// has the name of the bucket that an external server has for it. A change is one group of the journal, so it is synced
// together with whatever else waits at that moment.
//
// In the journal a key has the sort's name and a dot before it, and a value eight bytes with the time of the change, in
// Unix milliseconds.
//
// A record that is damaged on the disk is as good as none, and that is said once.
type records struct {
	spool *Spool
	name  string        // of the sort
	life  time.Duration // how long a record is kept; 0: until it is deleted
	now   func() time.Time

	mu       sync.Mutex
	creating map[string]chan struct{} // closed when the key's Create has ended
	damaged  map[string]bool          // keys of which it was said
	listed   []string                 // the journal's keys when a List began, in order
	since    map[string]bool          // those that have come since; nil: there are too many, and listed is gone
}

var _ bridge.State = (*records)(nil)

// Sorts of records, by the buckets of an external server.
var recordSorts = [...]string{bucketExecutions, bucketLeases, bucketMarks}

const recordHead = 8 // bytes before the value

func newRecords(s *Spool, name string) *records {
	r := &records{spool: s, name: name, now: time.Now, creating: map[string]chan struct{}{}, damaged: map[string]bool{}}
	if name == bucketExecutions {
		r.life = s.store.cfg.executionTTL()
	}
	return r
}

func (r *records) key(key string) string { return r.name + "." + key }

func encodeRecord(at time.Time, value []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, recordHead+len(value)), uint64(at.UnixMilli())), value...)
}

// read returns a value and the time of its change. ErrNotFound: there is none, or it has expired.
func (r *records) read(key string) ([]byte, time.Time, error) {
	whole, err := r.spool.journal.Get(r.key(key))
	if errors.Is(err, journal.ErrNotFound) {
		return nil, time.Time{}, bridge.ErrNotFound
	}
	var damage *journal.Damage
	if errors.As(err, &damage) && damage.Err == nil || err == nil && len(whole) < recordHead {
		r.sayDamaged(key, err)
		return nil, time.Time{}, bridge.ErrNotFound
	}
	if err != nil {
		return nil, time.Time{}, r.wrap(key, err)
	}
	at := time.UnixMilli(int64(binary.BigEndian.Uint64(whole)))
	if r.life > 0 && r.now().Sub(at) > r.life {
		return nil, at, bridge.ErrNotFound
	}
	return whole[recordHead:], at, nil
}

func (r *records) sayDamaged(key string, err error) {
	r.mu.Lock()
	said := r.damaged[key]
	r.damaged[key] = true
	r.mu.Unlock()
	if !said {
		r.spool.log.Error("a record is damaged on the disk; what it held is forgotten", "records", r.spool.subjects.Name(r.name), "key", key, "error", err)
	}
}

// Get is bridge.State.
func (r *records) Get(_ context.Context, key string) ([]byte, error) {
	value, _, err := r.read(key)
	return value, err
}

// Put is bridge.State.
func (r *records) Put(ctx context.Context, key string, value []byte) error {
	g := journal.Group{Urgent: true}
	g.Put(r.key(key), encodeRecord(r.now(), value))
	err := r.append(ctx, key, &g)
	r.mu.Lock() // now, as whoever lists the journal's keys from here on finds this one
	defer r.mu.Unlock()
	switch {
	case len(r.since) == maxSince:
		r.listed, r.since = nil, nil
	case r.since != nil:
		r.since[r.key(key)] = true
	}
	return err
}

// Create is bridge.State.
func (r *records) Create(ctx context.Context, key string, value []byte) error {
	end, err := r.alone(ctx, key)
	if err != nil {
		return err
	}
	defer end()
	if _, _, err := r.read(key); !errors.Is(err, bridge.ErrNotFound) {
		if err == nil {
			err = r.wrap(key, bridge.ErrExists)
		}
		return err
	}
	return r.Put(ctx, key, value)
}

// alone waits until nobody else creates the key. The caller calls end when he has.
func (r *records) alone(ctx context.Context, key string) (end func(), err error) {
	for {
		r.mu.Lock()
		other := r.creating[key]
		if other == nil {
			mine := make(chan struct{})
			r.creating[key] = mine
			r.mu.Unlock()
			return func() {
				r.mu.Lock()
				defer r.mu.Unlock()
				delete(r.creating, key)
				close(mine)
			}, nil
		}
		r.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Delete is bridge.State.
func (r *records) Delete(ctx context.Context, key string) error {
	g := journal.Group{Urgent: true}
	g.Delete(r.key(key))
	return r.append(ctx, key, &g)
}

// List is bridge.State.
func (r *records) List(ctx context.Context, prefix string, f func(key string, value []byte) error) error {
	for _, key := range r.keys(r.key(prefix)) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		key = strings.TrimPrefix(key, r.name+".")
		value, _, err := r.read(key)
		if errors.Is(err, bridge.ErrNotFound) {
			continue
		}
		if err == nil {
			err = f(key, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// maxSince bounds the keys that are looked through besides those in order.
const maxSince = 1 << 10

// keys returns the journal's keys that begin with a prefix, in order, among them some that are gone. Every Thing that
// starts lists its own, so they are not looked for among those of all.
func (r *records) keys(prefix string) (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since == nil {
		r.since = map[string]bool{} // before the journal is asked, so that no key is missed
		r.listed = r.spool.journal.Keys(r.key(""))
	}
	from, _ := slices.BinarySearch(r.listed, prefix)
	for _, key := range r.listed[from:] {
		if !strings.HasPrefix(key, prefix) {
			break
		}
		if !r.since[key] {
			out = append(out, key)
		}
	}
	for key := range r.since {
		if strings.HasPrefix(key, prefix) {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

func (r *records) append(ctx context.Context, key string, g *journal.Group) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err := r.spool.journal.Append(ctx, g)
	if errors.Is(err, journal.ErrTooLarge) {
		err = fmt.Errorf("%w: %w", bridge.ErrTooLarge, err)
	} else if ctx.Err() == nil {
		r.spool.fails(err)
	}
	return r.wrap(key, err)
}

func (r *records) wrap(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s, key %s: %w", r.spool.subjects.Name(r.name), key, err)
}

// expireSteps is how often in their life records are looked through for those that have expired.
const expireSteps = 28

// expire removes records at the end of their life until the spool ends.
func (r *records) expire() {
	for {
		r.sweep()
		select {
		case <-r.spool.ended:
			return
		case <-time.After(r.life / expireSteps):
		}
	}
}

// sweep removes the records that have expired. What can't be removed now is removed the next time.
func (r *records) sweep() {
	g, n := &journal.Group{Urgent: true}, 0
	flush := func() {
		if n > 0 {
			ctx, cancel := context.WithTimeout(context.Background(), answerTime)
			defer cancel()
			_, err := r.spool.journal.Append(ctx, g)
			r.spool.fails(err)
			g, n = &journal.Group{Urgent: true}, 0
		}
	}
	for _, key := range r.spool.journal.Keys(r.key("")) {
		select {
		case <-r.spool.ended:
			return
		default:
		}
		if _, at, err := r.read(strings.TrimPrefix(key, r.name+".")); errors.Is(err, bridge.ErrNotFound) && !at.IsZero() {
			g.Delete(key)
			if n++; n == maxSince {
				flush()
			}
		}
	}
	flush()
}

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
	err = eachEntry(ctx, kv, ">", func(e jetstream.KeyValueEntry) error {
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
