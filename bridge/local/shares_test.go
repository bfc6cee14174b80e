package local

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/letters"
	"fleetbridge/internal/race"
	"fleetbridge/mapping"
)

func letterOf(t mapping.Thing, payload string) bridge.Letter {
	l := upLetter(payload)
	l.Address.Thing, l.Origin = t, ""
	return l
}

// flood buries letters of a Thing as fast as they are taken.
func flood(t *testing.T, r *rig, thing mapping.Thing, n, bytes int) {
	t.Helper()
	stored, ctx := make(chan error, n), testContext(t)
	for i := range n {
		payload := fmt.Sprintf("%d %s", i, strings.Repeat("x", bytes))
		if err := r.store.Bury(ctx, letterOf(thing, payload), func(err error) { stored <- err }); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
	r.seen()
}

// One Thing's letters leave the others' alone, whatever their size, also after a restart.
func TestDeadLettersHaveShares(t *testing.T) {
	t.Parallel()
	floods := []struct {
		name     string
		n, bytes int
	}{{"few large", 40, 50_000}, {"middling", 500, 4_000}, {"many small", 2_000, 500}}
	for i := 0; i < len(floods); i += race.Step() {
		c := floods[i]
		t.Run(c.name, func(t *testing.T) {
			cfg := StoreConfig{Things: []mapping.Thing{"good", "bad", "third"}, Up: 1 << 20}
			r := newRigWith(t, embedded.Config{}, cfg)
			r.journal.forgive("more than their share")
			flood(t, r, "good", 50, 1_000)
			for _, when := range []string{"at first", "after a restart"} {
				flood(t, r, "bad", c.n, c.bytes)
				d := r.store.DeadLetters()
				if got := len(selected(t, d, letters.Selection{Thing: "good"})); got != 50 {
					t.Errorf("%s: %d letters of the other Thing are left, want 50", when, got)
				}
				bad := selected(t, d, letters.Selection{Thing: "bad"})
				if len(bad) == 0 {
					t.Fatalf("%s: none is left of the flood", when)
				}
				last, err := d.Get(context.Background(), bad[len(bad)-1].ID)
				if err != nil || !strings.HasPrefix(string(last.Payload), fmt.Sprint(c.n-1, " ")) {
					t.Errorf("%s: the newest letter is %.20q, %v", when, last.Payload, err)
				}
				r.stop()
				r.start(embedded.Config{}, cfg)
			}
		})
	}
}

// Small letters don't become more than there is memory for, also across a restart.
func TestDeadLettersAreFew(t *testing.T) {
	t.Parallel()
	cfg := StoreConfig{Things: []mapping.Thing{"good", "bad", "third"}, Up: 1 << 20}
	r := newRigWith(t, embedded.Config{}, cfg)
	few := func() {
		if r.store.shares.least != cfg.Up*3/4/maxLetters {
			t.Errorf("a letter counts %d bytes at least", r.store.shares.least)
		}
		r.store.shares.least = cfg.Up * 3 / 4 / 150
		if err := r.store.shares.recount(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	r.journal.forgive("more than their share")
	few()
	flood(t, r, "good", 30, 10)
	flood(t, r, "bad", 300, 10)
	r.stop()
	r.start(embedded.Config{}, cfg)
	few()
	flood(t, r, "bad", 300, 10)
	d := r.store.DeadLetters()
	if good, bad := len(selected(t, d, letters.Selection{Thing: "good"})), len(selected(t, d, letters.Selection{Thing: "bad"})); good != 30 || bad < 30 || good+bad > 150 {
		t.Errorf("%d and %d letters are left", good, bad)
	}
}

// As long as there is room for all, nobody has to share.
func TestDeadLettersWithRoom(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{}, StoreConfig{Things: []mapping.Thing{"good", "bad", "third"}, Up: 1 << 20})
	flood(t, r, "bad", 150, 4_000) // more than a third, less than three quarters
	if got := len(selected(t, r.store.DeadLetters(), letters.Selection{Thing: "bad"})); got != 150 {
		t.Errorf("%d letters are left of 150", got)
	}
}

func TestThingOfTail(t *testing.T) {
	t.Parallel()
	for tail, want := range map[string]string{"up.pump.events.e": "pump", "down.pump=207.-": "pump=207", "up.": "", "": "", "up.=cut": "=cut"} {
		if got := thingOfTail(tail); got != want {
			t.Errorf("%q: %q, want %q", tail, got, want)
		}
	}
}

// A start goes on when the letters can't be counted, and says so.
func TestDeadLettersCannotBeCounted(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{}, StoreConfig{Things: []mapping.Thing{"good", "bad"}, Up: 1 << 20})
	flood(t, r, "bad", 10, 100)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.journal.forgive("can't be counted")
	if err := r.store.viewsOpened(testContext(t)); err != nil {
		t.Fatal(err)
	}
	r.store.shares.count(ctx)
	if n := len(r.store.shares.of["bad"].sizes); n != 10 {
		t.Errorf("%d letters are counted", n)
	}
	if !strings.Contains(r.journal.shown(), "can't be counted") {
		t.Error("nothing is said")
	}
}
