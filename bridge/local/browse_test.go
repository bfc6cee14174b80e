package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/letters"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Pages, one after the other, have every message of a subject, the newest first, wherever the others and the gaps are.
func TestBrowse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := testContext(t)
	js, err := wire.JetStream(r.nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "X", Subjects: []string{"x.>"}, Storage: jetstream.MemoryStorage})
	if err != nil {
		t.Fatal(err)
	}
	const all = 1500
	of := map[string][]uint64{}
	for i := uint64(1); i <= all; i++ {
		subject := "x.busy"
		switch {
		case i%350 == 3:
			subject = "x.rare"
		case i > 1000 && i < 1040:
			subject = "x.burst"
		}
		if _, err := js.PublishAsync(subject, []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		of[subject] = append(of[subject], i)
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		t.Fatal("not stored")
	}
	for _, gone := range []uint64{1, 2, 1010, 1011, 1499, 1500} {
		if err := stream.DeleteMsg(ctx, gone); err != nil {
			t.Fatal(err)
		}
		for subject := range of {
			of[subject] = slices.DeleteFunc(of[subject], func(n uint64) bool { return n == gone })
		}
	}
	for subject, want := range of {
		for _, limit := range []int{1, 50, 500} {
			if limit == 1 && len(want) > 100 {
				continue
			}
			var got []uint64
			for before, pages := uint64(0), 0; ; pages++ {
				if pages > 2*all/limit+100 {
					t.Fatalf("%s by %d: no end", subject, limit)
				}
				page, err := streams.Browse(ctx, js, "X", subject, before, limit, func(m *jetstream.RawStreamMsg) (uint64, bool) {
					return m.Sequence, string(m.Data) == fmt.Sprint(m.Sequence)
				})
				if err != nil {
					t.Fatal(err)
				}
				if len(page.Items) > limit || page.Looked > 1000 || page.Total != all-6 {
					t.Fatalf("%s by %d: a page of %d, %d looked at, total %d", subject, limit, len(page.Items), page.Looked, page.Total)
				}
				got = append(got, page.Items...)
				if before = page.Next; before == 0 {
					break
				}
			}
			slices.Reverse(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s by %d: %d messages, want %d", subject, limit, len(got), len(want))
			}
		}
	}
	// What is not wanted is read, and pages without items lead on.
	page, err := streams.Browse(ctx, js, "X", "x.busy", 0, 10, func(m *jetstream.RawStreamMsg) (uint64, bool) { return 0, false })
	if err != nil || len(page.Items) > 0 || page.Next == 0 || page.Looked > 1000 {
		t.Errorf("%+v %v", page, err)
	}
	if info, err := stream.Info(ctx); err != nil || info.State.Consumers > 0 {
		t.Errorf("consumers were made: %+v %v", info.State, err)
	}
	if page, err := streams.Browse(ctx, js, "NONE", "x.>", 0, 10, func(m *jetstream.RawStreamMsg) (uint64, bool) { return 0, true }); err != nil || len(page.Items) > 0 {
		t.Errorf("a stream that there is not: %+v %v", page, err)
	}
}

// What a Thing has of each sort is found, and not what another has.
func TestBrowseThing(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump", "valve")
	ctx := testContext(t)
	for i, thing := range []mapping.Thing{"pump", "valve", "pump"} {
		a := mapping.Address{Thing: thing, Channel: mapping.CommandRequest, ID: fmt.Sprint("e.", i)}
		send(t, func(ctx context.Context, done func(error)) error {
			return r.store.Down().Send(ctx, bridge.Message{Address: a, Payload: []byte(`{"action":"a"}`)}, done)
		})
		r.seen()
		lease := mapping.Token(string(thing)) + "." + mapping.Token(a.ID)
		if err := r.store.Leases().Put(ctx, lease, []byte(`{"worker":"w","executionNumber":7}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.store.Leases().Delete(ctx, "pump."+mapping.Token("e.0")); err != nil {
		t.Fatal(err)
	}
	bury(t, r, upLetter("{}"))
	f, err := NewFinder(r.nc, r.subjects)
	if err != nil {
		t.Fatal(err)
	}
	came, err := f.Came(ctx, "pump", "", 0, 10, 5)
	if err != nil || len(came.Items) != 2 || came.Items[0].Address.ID != "e.2" || string(came.Items[0].Payload) != `{"act` || came.Items[0].Size != 14 {
		t.Errorf("came: %+v %v", came, err)
	}
	if none, err := f.Came(ctx, "pump", mapping.ShadowDelta, 0, 10, 5); err != nil || len(none.Items) != 0 {
		t.Errorf("of another channel: %+v %v", none, err)
	}
	if one, err := f.CameOne(ctx, "pump", came.Items[0].Sequence); err != nil || string(one.Payload) != `{"action":"a"}` {
		t.Errorf("one: %+v %v", one, err)
	}
	for _, n := range []uint64{0, 2, 99} {
		if _, err := f.CameOne(ctx, "pump", n); !errors.Is(err, ErrNoMessage) {
			t.Errorf("%d: %v", n, err)
		}
	}
	leased, err := r.store.Leased(ctx, "pump", 10)
	if err != nil || len(leased) != 1 || leased[0].Job != "e.2" || leased[0].Worker != "w" || leased[0].Execution != 7 {
		t.Errorf("leased: %+v %v", leased, err)
	}
	if n, err := r.store.DeadLetters().Count(ctx, "pump"); err != nil || n != 1 {
		t.Errorf("%d dead letters, %v", n, err)
	}
	page, err := r.store.DeadLetters().Before(ctx, letters.Selection{Thing: "pump", Code: "schema"}, 0, 10)
	if err != nil || len(page.Items) != 1 || page.Items[0].Size != 2 || page.Items[0].Payload != nil {
		t.Errorf("letters: %+v %v", page, err)
	}
	if none, err := r.store.DeadLetters().Before(ctx, letters.Selection{Code: "refused"}, 0, 10); err != nil || len(none.Items) != 0 {
		t.Errorf("with another code: %+v %v", none, err)
	}
}
