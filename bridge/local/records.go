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

	"fleetbridge/bridge"
	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
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
	// patient: nobody waits for a change but to settle what led to it.
	patient bool
	now     func() time.Time

	mu       sync.Mutex
	creating map[string]chan struct{} // closed when the key's Create has ended
	damaged  map[string]bool          // keys of which it was said
	listed   []string                 // the journal's keys when a List began, in order
	since    map[string]bool          // those that have come since; nil: there are too many, and listed is gone
	soon     map[string][]byte        // values of keys that the journal does not have yet
}

var (
	_ bridge.State  = (*records)(nil)
	_ bridge.Prompt = (*records)(nil)
)

// Sorts of records, by the buckets of an external server.
var recordSorts = [...]string{wire.BucketExecutions, wire.BucketLeases, wire.BucketMarks}

const recordHead = 8 // bytes before the value

func newRecords(s *Spool, name string) *records {
	r := &records{spool: s, name: name, now: time.Now, creating: map[string]chan struct{}{}, damaged: map[string]bool{}, soon: map[string][]byte{}}
	r.patient = name == wire.BucketShadow || name == wire.BucketMarks
	if name == wire.BucketExecutions {
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
	r.mu.Lock()
	value, soon := r.soon[key]
	r.mu.Unlock()
	if soon {
		return slices.Clone(value), r.now(), nil
	}
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
	g := journal.Group{Urgent: true, Patient: r.patient}
	g.Put(r.key(key), encodeRecord(r.now(), value))
	err := r.append(ctx, key, &g)
	r.noted(key)
	if err == nil {
		r.known(key)
	}
	return err
}

// noted is told that the journal may have got a key.
func (r *records) noted(key string) {
	r.mu.Lock() // now, as whoever lists the journal's keys from here on finds this one
	defer r.mu.Unlock()
	switch {
	case len(r.since) == maxSince:
		r.listed, r.since = nil, nil
	case r.since != nil:
		r.since[r.key(key)] = true
	}
}

// CreateSoon is bridge.Prompt.
func (r *records) CreateSoon(ctx context.Context, made bridge.Record, gone string, durable func(error)) error {
	key := made.Key
	end, err := r.alone(ctx, key)
	if err != nil {
		return err
	}
	if _, _, err := r.read(key); !errors.Is(err, bridge.ErrNotFound) {
		end()
		if err == nil {
			err = r.wrap(key, bridge.ErrExists)
		}
		return err
	}
	g, whole := journal.Group{Urgent: true, Patient: true}, encodeRecord(r.now(), made.Value)
	g.Put(r.key(key), whole)
	if gone != "" {
		g.Delete(r.key(gone))
	}
	r.mu.Lock()
	r.soon[key] = whole[recordHead:]
	r.mu.Unlock()
	err = r.spool.journal.Enqueue(ctx, &g, func(_ journal.Receipt, err error) {
		r.noted(key)
		if err == nil {
			r.known(key)
		}
		r.spool.fails(err)
		end()
		durable(r.wrap(key, err))
	})
	if err != nil {
		r.known(key)
		end()
	}
	return r.wrap(key, err)
}

// known says that what the journal has of a key counts.
func (r *records) known(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.soon, key)
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
	g := journal.Group{Urgent: true, Patient: r.patient}
	g.Delete(r.key(key))
	err := r.append(ctx, key, &g)
	if err == nil {
		r.known(key)
	}
	return err
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
	ctx, cancel := context.WithTimeout(ctx, streams.AnswerTime)
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
			ctx, cancel := context.WithTimeout(context.Background(), streams.AnswerTime)
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
