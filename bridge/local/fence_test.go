package local

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/natstest"
	"fleetbridge/bridge/local/ownership"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/bridge/porttest"
	"fleetbridge/mapping"
)

// terms makes terms of one shard without a log: the test says whose turn it is.
func terms(t *testing.T, nc *nats.Conn, j *logbook) func(id string, epoch uint64) *ownership.Term {
	return func(id string, epoch uint64) *ownership.Term {
		o, err := ownership.Open(t.Context(), nc, ownership.Config{Subjects: subjects(t), ID: id, Run: id, Shards: 1, Beat: time.Second, Log: j.log(), Marked: func(context.Context) (uint64, error) { return 0, nil }})
		if err != nil {
			t.Fatal(err)
		}
		return o.NewTerm(0, epoch)
	}
}

// From the moment at which another bridge has put its marker, nothing is stored that the one before writes, and what the
// new one reads is all that was stored before.
func TestFence(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	j.forgiven = append(j.forgiven, "another bridge owns the things")
	nc := natstest.Connect(t)
	term := terms(t, nc, j)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	store, err := Open(ctx, nc, StoreConfig{Subjects: subjects(t), Things: []mapping.Thing{"pump"}, Shards: 2}, j.log())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	opened := func(x *ownership.Term) *Share {
		t.Helper()
		s, err := store.Own(ctx, x)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	a := opened(term("a", 7))
	for i := range 20 {
		if err := a.Executions().Put(ctx, fmt.Sprint("open.pump.", i), []byte("a")); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Executions().Delete(ctx, "open.pump.0"); err != nil {
		t.Fatal(err)
	}
	if err := a.Shadow().PutNoted(ctx, "pump", []byte("{}"), []byte("note")); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 2)
	down := func(s *Share, payload string) {
		t.Helper()
		m := bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.ShadowDelta}, Payload: []byte(payload), Received: time.Now()}
		if err := s.Down().Send(ctx, m, func(err error) { sent <- err }); err != nil {
			t.Fatal(err)
		}
	}
	down(a, "1")
	if err := <-sent; err != nil {
		t.Fatal(err)
	}

	b := opened(term("b", 9))
	n := 0
	consumers, err := nc.SubscribeSync("$JS.API.CONSUMER.CREATE.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Executions().List(ctx, "open.pump.", func(string, []byte) error { n++; return nil }); err != nil || n != 19 {
		t.Errorf("the new owner finds %d of 19 executions, %v", n, err)
	}
	if made, _, _ := consumers.Pending(); made > 0 {
		t.Errorf("to find them takes %d consumers, which may be on a server that stands still", made)
	}
	const many = 1100 // more than a server reads at once
	for i := range many {
		if _, err := store.js.PublishAsync(fmt.Sprint("$KV.FLEETS_LEASES.many.", i), []byte("a")); err != nil {
			t.Fatal(err)
		}
	}
	<-store.js.PublishAsyncComplete()
	n = 0
	if err := b.Leases().List(ctx, "many.", func(string, []byte) error { n++; return nil }); err != nil || n != many {
		t.Errorf("the new owner finds %d of %d leases, %v", n, many, err)
	}
	if value, note, err := b.Shadow().GetNoted(ctx, "pump"); err != nil || string(value) != "{}" || string(note) != "note" {
		t.Errorf("the new owner finds the shadow %q, %q, %v", value, note, err)
	}
	if m, err := b.Last(ctx, mapping.Address{Thing: "pump", Channel: mapping.ShadowDelta}); err != nil || string(m.Payload) != "1" {
		t.Errorf("the new owner finds the delta %q, %v", m.Payload, err)
	}
	for name, state := range map[string]bridge.State{"executions": a.Executions(), "leases": a.Leases(), "marks": a.Marks()} {
		if err := state.Put(ctx, "x.y", []byte("late")); !errors.Is(err, ownership.ErrFenced) {
			t.Errorf("%s: a late write: %v", name, err)
		}
		if _, err := b.bucket(map[string]string{"executions": wire.BucketExecutions, "leases": wire.BucketLeases, "marks": wire.BucketMarks}[name]).Get(ctx, "x.y"); !errors.Is(err, bridge.ErrNotFound) {
			t.Errorf("%s: a late write is there: %v", name, err)
		}
	}
	if err := a.Shadow().PutNoted(ctx, "pump", []byte(`{"late":1}`), nil); !errors.Is(err, ownership.ErrFenced) {
		t.Errorf("a late shadow: %v", err)
	}
	down(a, "late")
	down(b, "2")
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if m, err := b.Last(ctx, mapping.Address{Thing: "pump", Channel: mapping.ShadowDelta}); err != nil || string(m.Payload) != "2" {
		t.Errorf("after a late delta the last one is %q, %v", m.Payload, err)
	}
	if _, err := store.Own(ctx, term("c", 8)); !errors.Is(err, ownership.ErrFenced) {
		t.Errorf("an older epoch puts its markers: %v", err)
	}
	other := term("c", 8)
	other.Shard = 1
	if err := opened(other).Leases().Put(ctx, "valve.1", []byte("c")); err != nil {
		t.Errorf("another shard is not the owner's of the first one: %v", err)
	}
	if err := b.Leases().Put(ctx, "pump.1", []byte("b")); err != nil {
		t.Errorf("the first shard is not another's owner's: %v", err)
	}
}

// A fenced bucket promises what every State does.
func TestFencedState(t *testing.T) {
	t.Parallel()
	porttest.State(t, func(t *testing.T) *porttest.StateHouse {
		j := newJournal(t)
		nc := natstest.Connect(t)
		store, err := Open(t.Context(), nc, StoreConfig{Subjects: subjects(t), Things: []mapping.Thing{"pump"}, Shards: 1}, j.log())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		s, err := store.Own(t.Context(), terms(t, nc, j)("a", 3))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return &porttest.StateHouse{State: s.Leases()}
	})
}
