package local

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
)

// shadowView is bridge.ShadowView with the embedded server. A document is a record in the journal; the newest counts, so it is
// durable when that is synced. Behind it one goroutine writes it into the bucket, for programs, as often as it can. A start
// writes again what the bucket lacks.
//
// In the journal a value has the length of the note, the note, and the document. In the bucket it has the header
// Fleets-Number; what has none was written by an older version, and is newer than what the journal has.
type shadowView struct {
	records *records
	bucket  *bucket
	views   *views
	tries   tries

	mu      sync.Mutex
	stale   map[string]bool // keys that the bucket does not have as they are
	copying bool            // some that were
	wake    chan struct{}
}

func encodeShadow(value, note []byte) []byte {
	b := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen32+len(note)+len(value)), uint64(len(note)))
	return append(append(b, note...), value...)
}

func decodeShadow(b []byte) (value, note []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, errors.New("the record is none of a shadow document")
	}
	if b = b[n:]; size > 0 {
		note = b[:size:size]
	}
	return b[size:], note, nil
}

// openShadows takes over what an older version left in the bucket, and brings the bucket up to date.
func (s *Spool) openShadows(ctx context.Context) error {
	b := s.store.bucket(wire.BucketShadow)
	v := &shadowView{records: newRecords(s, wire.BucketShadow), bucket: b, views: s.views, stale: map[string]bool{}, wake: make(chan struct{}, 1),
		tries: tries{what: "shadow documents", log: s.log, note: func(string) {}, most: viewPause}} // the bucket notes it
	if err := v.compare(ctx); err != nil {
		return fmt.Errorf("bucket %s: %w", b.config.Bucket, err)
	}
	s.shadows = v
	s.work.Go(v.write)
	return nil
}

// compare takes over what an older version wrote, and finds out what the bucket lacks.
func (v *shadowView) compare(ctx context.Context) error {
	in, err := v.bucket.all(ctx)
	if err != nil {
		return err
	}
	err = v.records.List(ctx, "", func(key string, whole []byte) error {
		value, note, err := decodeShadow(whole)
		m := in[key]
		switch {
		case err != nil:
			return err
		case m == nil, m.Header.Get(headerNumber) != "" && (string(m.Data) != string(value) || m.Header.Get(wire.HeaderNote) != string(note)):
			v.stale[key] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	listed := v.records.spool.journal.Keys(v.records.key(""))
	for key, m := range in {
		if m.Header.Get(headerNumber) != "" {
			if _, is := slices.BinarySearch(listed, v.records.key(key)); !is {
				v.stale[key] = true // it is deleted
				continue
			}
			if _, err := v.records.Get(ctx, key); !errors.Is(err, bridge.ErrNotFound) {
				continue
			} // else the record is damaged
		}
		if err := v.records.Put(ctx, key, encodeShadow(m.Data, []byte(m.Header.Get(wire.HeaderNote)))); err != nil {
			return err
		}
		v.stale[key] = true
	}
	flow.Signal(v.wake)
	return nil
}

// all reads what a bucket holds, by key.
func (b *bucket) all(ctx context.Context) (map[string]*jetstream.RawStreamMsg, error) {
	keys, err := b.kv.ListKeys(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = keys.Stop() }()
	stream, err := b.js.Stream(ctx, "KV_"+b.config.Bucket)
	if err != nil {
		return nil, err
	}
	out := map[string]*jetstream.RawStreamMsg{}
	for key := range keys.Keys() {
		m, err := b.last(ctx, stream, key)
		if err == nil {
			out[key] = m
		} else if !errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil, err
		}
	}
	return out, ctx.Err()
}

// GetNoted is bridge.ShadowView.
func (v *shadowView) GetNoted(ctx context.Context, key string) (value, note []byte, err error) {
	whole, err := v.records.Get(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	return decodeShadow(whole)
}

// PutNoted is bridge.ShadowView.
func (v *shadowView) PutNoted(ctx context.Context, key string, value, note []byte) error {
	if n, most := wire.Size(v.message(key, value, note)), v.views.nc.MaxPayload(); int64(n) > most {
		return v.records.wrap(key, fmt.Errorf("%w: %d bytes with headers, and %d are allowed", bridge.ErrTooLarge, n, most))
	}
	if err := v.records.Put(ctx, key, encodeShadow(value, note)); err != nil {
		return err
	}
	v.changed(key)
	return nil
}

// Delete is bridge.ShadowView.
func (v *shadowView) Delete(ctx context.Context, key string) error {
	if err := v.records.Delete(ctx, key); err != nil {
		return err
	}
	v.changed(key)
	return nil
}

func (v *shadowView) changed(key string) {
	v.mu.Lock()
	v.stale[key] = true
	v.mu.Unlock()
	flow.Signal(v.wake)
}

func (v *shadowView) message(key string, value, note []byte) *nats.Msg {
	m := nats.NewMsg(v.bucket.subject(key))
	m.Data = value
	if len(note) > 0 {
		m.Header.Set(wire.HeaderNote, string(note))
	}
	m.Header.Set(headerNumber, v.views.id+"."+strconv.FormatUint(v.records.spool.journal.Last(), 10))
	return m
}

// write brings the bucket up to date, again and again, until the spool ends.
func (v *shadowView) write() {
	for {
		keys := v.takeStale()
		for _, key := range keys {
			err := v.copy(key)
			if err == nil {
				v.tries.succeeded()
				continue
			}
			v.changed(key)
			if !v.tries.pause(v.views.stop, err) {
				return
			}
		}
		if len(keys) > 0 {
			continue
		}
		select {
		case <-v.wake:
		case <-v.views.stop:
			return
		}
	}
}

func (v *shadowView) takeStale() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	keys := slices.Sorted(maps.Keys(v.stale))
	clear(v.stale)
	v.copying = len(keys) > 0
	return keys
}

// copy writes a document into the bucket as it is now.
func (v *shadowView) copy(key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), streams.AnswerTime)
	defer cancel()
	value, note, err := v.GetNoted(ctx, key)
	if errors.Is(err, bridge.ErrNotFound) {
		return v.bucket.Delete(ctx, key)
	}
	if err == nil {
		_, err = v.bucket.js.PublishMsg(ctx, v.message(key, value, note), jetstream.WithRetryAttempts(0))
		err = v.bucket.wrote(key, err)
	}
	return err
}

// settled reports whether the bucket has what has changed.
func (v *shadowView) settled() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.stale) == 0 && !v.copying
}

// settle waits a while until it has.
func (v *shadowView) settle() {
	ctx, cancel := context.WithTimeout(context.Background(), viewCloseTime)
	defer cancel()
	for !v.settled() && flow.Sleep(ctx, time.Millisecond) == nil {
	}
}
