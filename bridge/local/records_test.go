package local

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/wire"
)

// TestRecordsExpire: after their life records are gone, for those who ask at once, and then from the journal.
func TestRecordsExpire(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{}, StoreConfig{ExecutionTTL: time.Hour})
	ctx, b := testContext(t), r.spool.records[wire.BucketExecutions]
	put := func(key string, age time.Duration) {
		t.Helper()
		b.now = func() time.Time { return time.Now().Add(-age) }
		if err := b.Put(ctx, key, []byte(key)); err != nil {
			t.Fatal(err)
		}
		b.now = time.Now
	}
	old := &journal.Group{}
	for i := range maxSince + 2 { // more than the sweep removes in one write
		old.Put(b.key(fmt.Sprintf("done.pump.%d", i)), encodeRecord(time.Now().Add(-61*time.Minute), nil))
	}
	if _, err := r.spool.journal.Append(ctx, old); err != nil {
		t.Fatal(err)
	}
	put("done.pump.first", 2*time.Hour)
	put("done.pump.young", 59*time.Minute)
	if _, err := b.Get(ctx, "done.pump.first"); !errors.Is(err, bridge.ErrNotFound) {
		t.Errorf("after two hours: %v", err)
	}
	if err := b.Create(ctx, "done.pump.first", []byte("again")); err != nil {
		t.Errorf("after two hours: %v", err)
	}
	b.sweep()
	if left := r.spool.journal.Keys(b.key("")); len(left) != 2 || left[0] != "EXECUTIONS.done.pump.first" || left[1] != "EXECUTIONS.done.pump.young" {
		t.Errorf("%d keys are left, such as %.3q", len(left), left)
	}
}

// TestDamagedRecords: a record that can't be read is as good as none. That is said once, and the key can be used again.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := testContext(t)
	for _, key := range []string{"pump.a", "pump.b"} {
		if err := r.store.Leases().Put(ctx, key, []byte(strings.Repeat(key, 20))); err != nil {
			t.Fatal(err)
		}
	}
	r.stop()
	r.flip(t, []byte(strings.Repeat("pump.a", 20)))
	r.start(embedded.Config{}, StoreConfig{})
	r.journal.forgive("a record is damaged")
	b := r.store.Leases()
	for range 2 {
		var keys []string
		err := b.List(ctx, "pump.", func(key string, _ []byte) error { keys = append(keys, key); return nil })
		if err != nil || len(keys) != 1 || keys[0] != "pump.b" {
			t.Errorf("%q, %v", keys, err)
		}
	}
	if n := r.journal.count("a record is damaged on the disk"); n != 1 {
		t.Errorf("it was said %d times", n)
	}
	if err := b.Create(ctx, "pump.a", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if value, err := b.Get(ctx, "pump.a"); err != nil || string(value) != "new" {
		t.Errorf("%q, %v", value, err)
	}
}

// TestRecordsAreListed: however many keys have come since the last List, the next one has all.
func TestRecordsAreListed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx, b := testContext(t), r.spool.records[wire.BucketLeases]
	count := func() (n int) {
		t.Helper()
		if err := b.List(ctx, "pump.", func(string, []byte) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	all := 0
	for _, more := range []int{0, 3, maxSince + 7, 5} {
		var work sync.WaitGroup
		for i := range more {
			work.Go(func() {
				if err := b.Put(ctx, fmt.Sprintf("pump.%d", all+i), nil); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		if all += more; count() != all {
			t.Fatalf("%d are listed of %d", count(), all)
		}
	}
}
