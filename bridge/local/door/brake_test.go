package door

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// braked is a brake on a server of its own.
func braked(t *testing.T) *Brake {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Shutdown)
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	subjects, err := mapping.NewSubjects("fleets")
	if err != nil {
		t.Fatal(err)
	}
	return NewBrake(nc, subjects)
}

// until waits until f is true.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for !f() {
		if flow.Sleep(ctx, time.Millisecond) != nil {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// TestBrakeShares: who floods has one half, two a third each, and there is room for who comes next. What is never seen
// again is given up.
func TestBrakeShares(t *testing.T) {
	b := braked(t)
	b.patience = time.Hour
	gone := make(chan struct{})
	close(gone)
	for _, c := range []struct{ who, want int }{{1, BrakeBytes / 2}, {2, BrakeBytes / 4}, {3, BrakeBytes / 8}} {
		for b.hold(c.who, c.who, load{bytes: brakeChunk}, gone) != nil {
		}
		if got := b.under.Of(c.who); got != c.want {
			t.Errorf("%d has %d, want %d", c.who, got, c.want)
		}
	}
	b.patience = time.Nanosecond
	b.hold(4, 4, load{bytes: brakeChunk}, gone)
	until(t, "given up", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.under.Of(4) == 0 })
	if b.hold(5, 5, load{bytes: brakeChunk - 1}, gone); b.fresh[5].bytes != brakeChunk-1 {
		t.Error("little is not counted")
	}
	if len(b.lines) != 0 || len(b.turns) != 0 {
		t.Error("who has gone waits")
	}
}

// TestBrakeAsked: who asks a lot that nobody may answer waits alone, and not for ever.
func TestBrakeAsked(t *testing.T) {
	b := braked(t)
	b.forget = time.Hour
	gone, n := make(chan struct{}), 0
	close(gone)
	ask := load{brakeChunk, 1024, 0}
	for ; ; n += ask.asked {
		m := b.hold("a", "a", ask, gone)
		if m == nil {
			break
		}
		m.release()
	}
	if n != maxAsked/2 {
		t.Errorf("one asks %d at a time", n)
	}
	for _, other := range []struct {
		who  string
		load load
	}{{"b", ask}, {"a", load{bytes: brakeChunk}}} {
		m := b.hold(other.who, other.who, other.load, gone)
		if m == nil {
			t.Fatalf("%+v waits", other)
		}
		m.release()
	}
	b.hold("c", "c", load{brakeChunk, 10, 0}, gone)
	if b.hold("c", "c", load{brakeChunk, leastAsked - 10, 0}, gone); b.asked.Of("c") != leastAsked {
		t.Errorf("of few, %d are counted", b.asked.Of("c"))
	}
	b = braked(t)
	b.forget = time.Millisecond
	for range 2 * maxAsked / ask.asked {
		b.hold("a", "a", ask, make(chan struct{})).release()
	}
}

// TestBrakeTurns: those who wait are let in one after the other, each sender in turn, and nobody before there is room.
func TestBrakeTurns(t *testing.T) {
	b := braked(t)
	b.patience = time.Hour
	type turn struct {
		name string
		*marker
	}
	let := make(chan turn)
	whole := load{bytes: BrakeBytes}
	now := turn{marker: b.hold("full", "full", whole, nil)}
	for _, w := range []struct {
		who, name string
		at        int
	}{{"a", "a1", 1}, {"a", "a2", 2}, {"b", "b1", 1}} {
		go func() { let <- turn{w.name, b.hold(w.who, w.who, whole, nil)} }()
		until(t, w.name+" waits", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.lines[w.who] != nil && len(b.lines[w.who].waiting) == w.at
		})
	}
	for _, want := range []string{"a1", "b1", "a2"} {
		select {
		case <-let:
			t.Fatal("somebody goes before there is room")
		default:
		}
		now.release()
		select {
		case now = <-let:
		case <-time.After(2 * time.Minute):
			t.Fatalf("%s waits for ever", want)
		}
		if now.name != want {
			t.Errorf("%s goes, want %s", now.name, want)
		}
	}
	if len(b.lines) != 0 || len(b.turns) != 0 {
		t.Error("somebody waits still")
	}
}
