package porttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// ViewHouse is an implementation of the views under test.
type ViewHouse struct {
	Down      bridge.Sink
	Archive   bridge.Archive
	Graveyard bridge.Graveyard
	Shadows   bridge.ShadowView
	TooLarge  int // bytes, of which no payload may have so many; 0: there is no limit
	// Letters are the codes and payloads of the dead letters that programs can read, oldest first.
	Letters func(ctx context.Context) (codes []bridge.Code, payloads [][]byte, err error)
	// Kill ends the implementation without ceremony and opens what it has left behind.
	Kill func() *ViewHouse
}

// Views asks an implementation of the views for all that the ports promise. open makes one that is empty.
func Views(t *testing.T, open func(t *testing.T) *ViewHouse) {
	for _, p := range []promise[*ViewHouse]{
		{"down in order", viewDown}, {"down from many", viewDownFromMany}, {"down too large", viewDownTooLarge}, {"dead letters", viewLetters},
		{"shadow", viewShadow},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.test(t, open(t))
		})
	}
}

// charges collects what the callbacks of a sink are told, in their order.
type charges struct {
	t    *testing.T
	mu   sync.Mutex
	done []int
	errs map[int]error
	more chan struct{}
}

func newCharges(t *testing.T) *charges {
	return &charges{t: t, errs: map[int]error{}, more: make(chan struct{}, 1)}
}

func (c *charges) of(n int) func(error) {
	return func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, twice := c.errs[n]; twice {
			c.t.Errorf("%d is done twice", n)
		}
		c.done, c.errs[n] = append(c.done, n), err
		select {
		case c.more <- struct{}{}:
		default:
		}
	}
}

// wait returns in which order n were done.
func (c *charges) wait(n int) []int {
	c.t.Helper()
	ctx := deadline(c.t)
	for {
		c.mu.Lock()
		done := c.done
		c.mu.Unlock()
		if len(done) >= n {
			return done
		}
		select {
		case <-c.more:
		case <-ctx.Done():
			c.t.Fatalf("%d of %d are done", len(done), n)
		}
	}
}

func hint(thing mapping.Thing, payload []byte) bridge.Message {
	return bridge.Message{Address: mapping.Address{Thing: thing, Channel: mapping.JobsNotify}, Payload: payload,
		Received: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Trace: bridge.Trace{Parent: "00-1-2-01", State: "a=b"}}
}

func viewDown(t *testing.T, h *ViewHouse) {
	const n = 100
	ctx, c := deadline(t), newCharges(t)
	a := hint("pump", nil).Address
	_, err := h.Archive.Last(ctx, a)
	wants(t, err, bridge.ErrNotFound)
	for i := range n {
		must(t, h.Down.Send(ctx, hint("pump", fmt.Append(nil, i)), c.of(i)))
	}
	for i, got := range c.wait(n) {
		if got != i || c.errs[got] != nil {
			t.Fatalf("%d is done as number %d: %v", got, i, c.errs[got])
		}
	}
	last := func() {
		t.Helper()
		m, err := h.Archive.Last(deadline(t), a)
		must(t, err)
		if want := hint("pump", fmt.Append(nil, n-1)); m.Address != a || !bytes.Equal(m.Payload, want.Payload) || !m.Received.Equal(want.Received) || m.Trace != want.Trace {
			t.Errorf("the last is %+v", m)
		}
	}
	last()
	h = h.Kill()
	last()
	_, err = h.Archive.Last(deadline(t), mapping.Address{Thing: "pump", Channel: mapping.ShadowDelta})
	wants(t, err, bridge.ErrNotFound)
}

func viewDownFromMany(t *testing.T, h *ViewHouse) {
	const things, n = 4, 50
	ctx, c := deadline(t), newCharges(t)
	var all sync.WaitGroup
	for k := range things {
		all.Go(func() {
			for i := range n {
				if err := h.Down.Send(ctx, hint(mapping.Thing(fmt.Sprint("pump-", k)), fmt.Append(nil, i)), c.of(k*n+i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	next := [things]int{}
	for _, got := range c.wait(things * n) {
		if k := got / n; got%n != next[k] || c.errs[got] != nil {
			t.Fatalf("of %d, %d is done and not %d: %v", k, got%n, next[k], c.errs[got])
		}
		next[got/n]++
	}
	for k := range things {
		m, err := h.Archive.Last(ctx, hint(mapping.Thing(fmt.Sprint("pump-", k)), nil).Address)
		if err != nil || string(m.Payload) != fmt.Sprint(n-1) {
			t.Errorf("the last of %d is %s, %v", k, m.Payload, err)
		}
	}
}

func viewDownTooLarge(t *testing.T, h *ViewHouse) {
	if h.TooLarge == 0 {
		t.Skip("there is no limit")
	}
	ctx, c := deadline(t), newCharges(t)
	for i, size := range []int{1, h.TooLarge, 2} {
		must(t, h.Down.Send(ctx, hint("pump", make([]byte, size)), c.of(i)))
	}
	c.wait(3)
	rejection := (*bridge.Rejection)(nil)
	if c.errs[0] != nil || c.errs[2] != nil || !errors.As(c.errs[1], &rejection) || rejection.Code != bridge.CodeTooLarge {
		t.Errorf("%v", c.errs)
	}
	if m, err := h.Archive.Last(ctx, hint("pump", nil).Address); err != nil || len(m.Payload) != 2 {
		t.Errorf("the last has %d bytes, %v", len(m.Payload), err)
	}
}

func viewLetters(t *testing.T, h *ViewHouse) {
	ctx, c := deadline(t), newCharges(t)
	sizes := []int{0, 10, max(h.TooLarge, 20), 30}
	for i, size := range sizes {
		m := hint("pump", bytes.Repeat([]byte("x"), size))
		must(t, h.Graveyard.Bury(ctx, bridge.Letter{Message: m, Direction: mapping.Down, Rejection: bridge.Rejectf(bridge.CodeSchema, "bad")}, c.of(i)))
	}
	for i, got := range c.wait(len(sizes)) {
		if got != i || c.errs[got] != nil {
			t.Errorf("%d is done as number %d: %v", got, i, c.errs[got])
		}
	}
	h = h.Kill()
	codes, payloads, err := h.Letters(deadline(t))
	must(t, err)
	if len(payloads) != len(sizes) {
		t.Fatalf("%d letters, want %d", len(payloads), len(sizes))
	}
	for i, p := range payloads {
		cut := h.TooLarge > 0 && sizes[i] >= h.TooLarge
		if codes[i] != bridge.CodeSchema || strings.Trim(string(p), "x") != "" || !cut && len(p) != sizes[i] || cut && (len(p) == 0 || len(p) >= sizes[i]) {
			t.Errorf("letter %d of %d bytes has %d, code %s", i, sizes[i], len(p), codes[i])
		}
	}
}

func viewShadow(t *testing.T, h *ViewHouse) {
	ctx := deadline(t)
	expect := func(value, note string) {
		t.Helper()
		v, n, err := h.Shadows.GetNoted(deadline(t), "pump")
		if err != nil || string(v) != value || string(n) != note {
			t.Errorf("%q with %q, %v, want %q with %q", v, n, err, value, note)
		}
	}
	_, _, err := h.Shadows.GetNoted(ctx, "pump")
	wants(t, err, bridge.ErrNotFound)
	must(t, h.Shadows.Delete(ctx, "pump"))
	must(t, h.Shadows.PutNoted(ctx, "pump", []byte(`{"a":1}`), []byte("a note")))
	expect(`{"a":1}`, "a note")
	must(t, h.Shadows.PutNoted(ctx, "pump", []byte(`{"a":2}`), nil))
	expect(`{"a":2}`, "")
	must(t, h.Shadows.PutNoted(ctx, "pump", []byte(`{"a":3}`), bytes.Repeat([]byte("n"), bridge.MaxNote)))
	if h.TooLarge > 0 {
		wants(t, h.Shadows.PutNoted(ctx, "pump", make([]byte, h.TooLarge), []byte("new")), bridge.ErrTooLarge)
	}
	must(t, h.Shadows.PutNoted(ctx, "fan", []byte("{}"), nil))
	must(t, h.Shadows.Delete(ctx, "fan"))
	h = h.Kill()
	expect(`{"a":3}`, strings.Repeat("n", bridge.MaxNote))
	_, _, err = h.Shadows.GetNoted(deadline(t), "fan")
	wants(t, err, bridge.ErrNotFound)
}
