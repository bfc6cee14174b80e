package local

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/wire"
)

// The revisions of the bucket in memory grow across restarts and losses, also when the clock was set back meanwhile:
// whoever watched an earlier life of it hears of the next one.
func TestRevisionsGrow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := testContext(t)
	put := func() uint64 {
		t.Helper()
		if err := r.store.Status().Put(ctx, "pump", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		entry, err := r.store.bucket(wire.BucketStatus).kv.Get(ctx, "pump")
		if err != nil {
			t.Fatal(err)
		}
		return entry.Revision()
	}
	last := put()
	if last > 1<<53 || time.UnixMicro(int64(last)).Before(time.Now().Add(-time.Hour)) {
		t.Errorf("the first revision is %d", last)
	}
	grows := func(what string) {
		t.Helper()
		if now := put(); now <= last {
			t.Errorf("%s: revision %d after %d", what, now, last)
		} else {
			last = now
		}
	}
	grows("the next value")
	r.stop()
	r.start(embedded.Config{}, StoreConfig{})
	grows("after a restart")
	far := uint64(time.Now().Add(24 * 365 * time.Hour).UnixMicro())
	if err := r.store.bucket(wire.BucketMarks).Put(ctx, revisionKey, strconv.AppendUint(nil, far, 10)); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.start(embedded.Config{}, StoreConfig{})
	last = far
	grows("after the clock was set back by a year")
	if err := r.store.js.DeleteStream(ctx, "KV_FLEETS_STATUS"); err != nil {
		t.Fatal(err)
	}
	grows("after the server has lost it")
	if err := r.store.bucket(wire.BucketMarks).Put(ctx, revisionKey, []byte("no number")); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.start(embedded.Config{}, StoreConfig{})
	if now := put(); now > far {
		t.Errorf("a damaged mark was followed to %d", now)
	}
}

// A note goes with its value, unseen by who reads the bucket, and goes with it.
func TestNotedValues(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := testContext(t)
	b := r.store.Shadow()
	expect := func(wantValue, wantNote string) {
		t.Helper()
		value, note, err := b.GetNoted(ctx, "pump")
		if err != nil || string(value) != wantValue || string(note) != wantNote {
			t.Errorf("%s, %s, %v; want %s, %s", value, note, err, wantValue, wantNote)
		}
		r.seen()
		entry, err := r.store.bucket(wire.BucketShadow).kv.Get(ctx, "pump")
		if err != nil || string(entry.Value()) != wantValue {
			t.Errorf("a program reads %v, %v", entry, err)
		}
	}
	if _, _, err := b.GetNoted(ctx, "pump"); !errors.Is(err, bridge.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	for _, c := range [][2]string{{`{"a":1}`, "bm90ZQ=="}, {`{"a":2}`, ""}, {"", "x"}, {`{"a":3}`, strings.Repeat("x", bridge.MaxNote)}} {
		note := []byte(c[1])
		if c[1] == "" {
			note = nil
		}
		if err := b.PutNoted(ctx, "pump", []byte(c[0]), note); err != nil {
			t.Fatal(err)
		}
		expect(c[0], c[1])
	}
	r.stop()
	r.start(embedded.Config{}, StoreConfig{})
	b = r.store.Shadow()
	expect(`{"a":3}`, strings.Repeat("x", bridge.MaxNote))
	if err := b.Delete(ctx, "pump"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.GetNoted(ctx, "pump"); !errors.Is(err, bridge.ErrNotFound) {
		t.Errorf("after the deletion: %v", err)
	}
}

// What a bucket will never take is said so, whoever finds out.
func TestValuesTooLarge(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{MaxPayload: 64 << 10}, StoreConfig{})
	ctx := testContext(t)
	large := make([]byte, 65<<10)
	for name, err := range map[string]error{
		"put":    r.store.Status().Put(ctx, "pump", large),
		"noted":  r.store.Shadow().PutNoted(ctx, "pump", large, nil),
		"note":   r.store.Shadow().PutNoted(ctx, "pump", large[:20<<10], []byte(strings.Repeat("x", bridge.MaxNote))),
		"create": r.store.bucket(wire.BucketMarks).Create(ctx, "pump", large),
	} {
		if !errors.Is(err, bridge.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
