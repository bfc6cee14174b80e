package porttest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"fleetbridge/bridge"
)

// StateHouse is an implementation of bridge.State under test.
type StateHouse struct {
	bridge.State
	TooLarge int // bytes, of which no value may have so many; 0: there is no limit
	// Kill ends the implementation without ceremony and opens what it has left behind. nil: nothing is left.
	Kill func() *StateHouse
}

// State asks an implementation of bridge.State for all that the port promises. open makes one that is empty.
func State(t *testing.T, open func(t *testing.T) *StateHouse) {
	for _, p := range []promise[*StateHouse]{
		{"newest counts", stateNewest}, {"delete", stateDelete}, {"one creates", stateOneCreates}, {"list", stateList},
		{"list ends", stateListEnds}, {"values are the caller's", stateValues}, {"too large", stateTooLarge}, {"durable", stateDurable},
	} {
		t.Run(p.name, func(t *testing.T) { p.test(t, open(t)) })
	}
}

func (h *StateHouse) expect(t *testing.T, key, want string) {
	t.Helper()
	if value, err := h.Get(deadline(t), key); err != nil || string(value) != want {
		t.Errorf("%s: %q, %v, want %q", key, value, err, want)
	}
}

func wants(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

func stateNewest(t *testing.T, h *StateHouse) {
	ctx := deadline(t)
	_, err := h.Get(ctx, "open.t.1")
	wants(t, err, bridge.ErrNotFound)
	must(t, h.Create(ctx, "open.t.1", []byte("a")))
	wants(t, h.Create(ctx, "open.t.1", []byte("b")), bridge.ErrExists)
	h.expect(t, "open.t.1", "a")
	for i := range 20 {
		must(t, h.Put(ctx, "open.t.1", fmt.Append(nil, i)))
		must(t, h.Put(ctx, "open.t.=2E", []byte("beside")))
		h.expect(t, "open.t.1", fmt.Sprint(i))
	}
	must(t, h.Put(ctx, "open.t.1", []byte("19"))) // twice changes nothing
	must(t, h.Put(ctx, "t", nil))
	h.expect(t, "t", "")
	h.expect(t, "open.t.1", "19")
}

func stateDelete(t *testing.T, h *StateHouse) {
	ctx := deadline(t)
	must(t, h.Delete(ctx, "t.1"))
	must(t, h.Put(ctx, "t.1", []byte("a")))
	must(t, h.Put(ctx, "t.2", []byte("beside")))
	must(t, h.Delete(ctx, "t.1"))
	must(t, h.Delete(ctx, "t.1"))
	_, err := h.Get(ctx, "t.1")
	wants(t, err, bridge.ErrNotFound)
	must(t, h.Create(ctx, "t.1", []byte("again")))
	h.expect(t, "t.1", "again")
	h.expect(t, "t.2", "beside")
}

func stateOneCreates(t *testing.T, h *StateHouse) {
	ctx := deadline(t)
	var all sync.WaitGroup
	var created atomic.Pointer[string]
	for i := range 8 {
		all.Go(func() {
			mine := fmt.Sprint(i)
			switch err := h.Create(ctx, "done.t.1", []byte(mine)); {
			case err == nil && !created.CompareAndSwap(nil, &mine):
				t.Errorf("%s and %s created it", *created.Load(), mine)
			case err != nil:
				wants(t, err, bridge.ErrExists)
			}
		})
	}
	if all.Wait(); created.Load() == nil {
		t.Fatal("nobody created it")
	}
	h.expect(t, "done.t.1", *created.Load())
}

func (h *StateHouse) list(t *testing.T, prefix string) map[string]string {
	t.Helper()
	got := map[string]string{}
	must(t, h.List(deadline(t), prefix, func(k string, v []byte) error {
		if _, twice := got[k]; twice {
			t.Errorf("%s twice", k)
		}
		got[k] = string(v)
		return nil
	}))
	return got
}

func stateList(t *testing.T, h *StateHouse) {
	ctx := deadline(t)
	if got := h.list(t, "open.t."); len(got) > 0 {
		t.Errorf("of nothing: %v", got)
	}
	for _, k := range []string{"open.t.1", "open.t.=2E", "open.t.gone", "open.tt.1", "open.u.1", "done.t.1"} {
		must(t, h.Put(ctx, k, []byte("old")))
		must(t, h.Put(ctx, k, []byte(k)))
	}
	must(t, h.Delete(ctx, "open.t.gone"))
	if got := h.list(t, "open.t."); !maps.Equal(got, map[string]string{"open.t.1": "open.t.1", "open.t.=2E": "open.t.=2E"}) {
		t.Errorf("list %v", got)
	}
	must(t, h.List(ctx, "open.t.", func(k string, _ []byte) error { return h.Delete(ctx, k) })) // f may use it
	if got := slices.Sorted(maps.Keys(h.list(t, "open."))); !slices.Equal(got, []string{"open.tt.1", "open.u.1"}) {
		t.Errorf("list %v", got)
	}
}

func stateListEnds(t *testing.T, h *StateHouse) {
	ctx, stop, calls := deadline(t), errors.New("stop"), 0
	must(t, h.Put(ctx, "t.1", nil))
	must(t, h.Put(ctx, "t.2", nil))
	wants(t, h.List(ctx, "t.", func(string, []byte) error { calls++; return stop }), stop)
	if calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

func stateValues(t *testing.T, h *StateHouse) {
	ctx, value := deadline(t), []byte("value")
	must(t, h.Put(ctx, "t.1", value))
	must(t, h.Create(ctx, "t.2", value))
	clear(value)
	h.expect(t, "t.1", "value")
	got, err := h.Get(ctx, "t.2")
	must(t, err)
	clear(got)
	h.expect(t, "t.2", "value")
}

func stateTooLarge(t *testing.T, h *StateHouse) {
	if h.TooLarge == 0 {
		t.Skip("there is no limit")
	}
	ctx, large := deadline(t), bytes.Repeat([]byte("x"), h.TooLarge)
	must(t, h.Put(ctx, "t.1", []byte("small")))
	wants(t, h.Put(ctx, "t.1", large), bridge.ErrTooLarge)
	wants(t, h.Create(ctx, "t.2", large), bridge.ErrTooLarge)
	h.expect(t, "t.1", "small")
	must(t, h.Create(ctx, "t.2", large[:h.TooLarge/2]))
	h.expect(t, "t.2", strings.Repeat("x", h.TooLarge/2))
}

func stateDurable(t *testing.T, h *StateHouse) {
	if h.Kill == nil {
		t.Skip("nothing is left after a kill")
	}
	ctx := deadline(t)
	for _, k := range []string{"t.1", "t.2", "t.3"} {
		must(t, h.Create(ctx, k, []byte("old")))
	}
	must(t, h.Put(ctx, "t.2", []byte("new")))
	must(t, h.Delete(ctx, "t.3"))
	h = h.Kill()
	if got := h.list(t, "t."); !maps.Equal(got, map[string]string{"t.1": "old", "t.2": "new"}) {
		t.Errorf("after a kill: %v", got)
	}
	wants(t, h.Create(deadline(t), "t.1", nil), bridge.ErrExists)
	must(t, h.Create(deadline(t), "t.3", nil))
}
