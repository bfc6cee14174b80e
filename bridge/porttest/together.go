package porttest

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// PromptHouse is an implementation of bridge.Prompt under test.
type PromptHouse struct {
	bridge.State
	bridge.Prompt
	Kill func() *PromptHouse // as of a StateHouse
}

// Prompt asks an implementation of bridge.Prompt for what the port promises. open makes one that is empty.
func Prompt(t *testing.T, open func(t *testing.T) *PromptHouse) {
	for _, p := range []promise[*PromptHouse]{{"one creates, and it is seen at once", promptOne}, {"durable", promptDurable}, {"exists", promptExists}} {
		t.Run(p.name, func(t *testing.T) { p.test(t, open(t)) })
	}
}

// promptOne: of many at once one creates the key. It is there at once, and the other is gone when that is durable.
func promptOne(t *testing.T, h *PromptHouse) {
	ctx := deadline(t)
	must(t, h.Put(ctx, "open.t.1", []byte("open")))
	var all sync.WaitGroup
	var made atomic.Int32
	ends := make(chan error, 8)
	for i := range 8 {
		all.Go(func() {
			mine := fmt.Sprint(i)
			err := h.CreateSoon(ctx, bridge.Record{Key: "done.t.1", Value: []byte(mine)}, "open.t.1", func(err error) { ends <- err })
			value, getErr := h.Get(ctx, "done.t.1")
			switch {
			case getErr != nil:
				t.Errorf("%s: then it is read with %v", mine, getErr)
			case err == nil && string(value) == mine:
				made.Add(1)
			default:
				wants(t, err, bridge.ErrExists)
			}
		})
	}
	all.Wait()
	if made.Load() != 1 {
		t.Errorf("%d made it", made.Load())
	}
	must(t, ended(t, ends))
	_, err := h.Get(ctx, "open.t.1")
	wants(t, err, bridge.ErrNotFound)
	if len(ends) > 0 {
		t.Error("durable is called again")
	}
}

func ended(t *testing.T, ends <-chan error) error {
	t.Helper()
	select {
	case err := <-ends:
		return err
	case <-deadline(t).Done():
		t.Fatal("durable is not called")
		return nil
	}
}

// promptDurable: when it says so, both changes survive a kill.
func promptDurable(t *testing.T, h *PromptHouse) {
	ctx, ends := deadline(t), make(chan error, 2)
	must(t, h.Put(ctx, "open.t.1", []byte("open")))
	for key, gone := range map[string]string{"done.t.1": "open.t.1", "done.t.2": ""} {
		must(t, h.CreateSoon(ctx, bridge.Record{Key: key, Value: []byte(key)}, gone, func(err error) { ends <- err }))
		must(t, ended(t, ends))
	}
	if h = h.Kill(); len(ends) > 0 {
		t.Error("durable is called again")
	}
	got := (&StateHouse{State: h.State}).list(t, "")
	if !maps.Equal(got, map[string]string{"done.t.1": "done.t.1", "done.t.2": "done.t.2"}) {
		t.Errorf("after a kill: %v", got)
	}
}

// promptExists: what is there stays, and so does what was to go.
func promptExists(t *testing.T, h *PromptHouse) {
	ctx := deadline(t)
	must(t, h.Put(ctx, "open.t.1", []byte("open")))
	must(t, h.Create(ctx, "done.t.1", []byte("first")))
	wants(t, h.CreateSoon(ctx, bridge.Record{Key: "done.t.1", Value: []byte("second")}, "open.t.1", func(error) { t.Error("durable is called") }), bridge.ErrExists)
	s := &StateHouse{State: h.State}
	s.expect(t, "done.t.1", "first")
	s.expect(t, "open.t.1", "open")
}

// KeeperHouse is an implementation of bridge.Keeper under test.
type KeeperHouse struct {
	bridge.Keeper
	Executions bridge.State // in which it keeps records
	Archive    bridge.Archive
	Kill       func() *KeeperHouse // ends the implementation without ceremony and opens what it has left behind
}

// Keeper asks an implementation of bridge.Keeper for what the port promises. open makes one that is empty.
func Keeper(t *testing.T, open func(t *testing.T) *KeeperHouse) {
	t.Run("both are kept, in order", func(t *testing.T) { keeperBoth(t, open(t)) })
}

// keeperBoth: whatever of two commands a kill leaves, it leaves message and record of each.
func keeperBoth(t *testing.T, h *KeeperHouse) {
	const n = 20
	ctx, c := deadline(t), newCharges(t)
	address := func(i int) mapping.Address {
		return mapping.Address{Thing: "pump", Channel: mapping.CommandRequest, ID: fmt.Sprint(i)}
	}
	key := func(i int) string { return fmt.Sprint("open.pump.", i) }
	for i := range n {
		must(t, h.SendKept(ctx, bridge.Message{Address: address(i), Payload: fmt.Append(nil, i)}, bridge.Record{Key: key(i), Value: fmt.Append(nil, "of ", i)}, c.of(i)))
	}
	for i, got := range c.wait(n) {
		if got != i || c.errs[got] != nil {
			t.Fatalf("%d is done as number %d: %v", got, i, c.errs[got])
		}
	}
	for _, when := range []string{"when done", "after a kill"} {
		for i := range n {
			value, err := h.Executions.Get(deadline(t), key(i))
			m, lastErr := h.Archive.Last(deadline(t), address(i))
			if err != nil || lastErr != nil || string(value) != fmt.Sprint("of ", i) || string(m.Payload) != fmt.Sprint(i) {
				t.Errorf("%s %d: record %q, %v; message %q, %v", when, i, value, err, m.Payload, lastErr)
			}
		}
		if when == "when done" {
			h = h.Kill()
		}
	}
}
