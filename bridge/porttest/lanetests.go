package porttest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// numbers prints from, from+1, … to-1.
func numbers(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

// laneOrder: each once and in order, through windows that are full again and again, while more comes.
func laneOrder(t *testing.T, h *LaneHouse) {
	const n = 210
	h.publish(t, event(pump), numbers(0, n/3)...)
	x := h.take(t, pump)
	var rest sync.WaitGroup
	rest.Go(func() {
		for _, p := range numbers(n/3, n) {
			if err := h.Publish(t.Context(), event(pump), []byte(p), ""); err != nil {
				t.Error(err)
			}
		}
	})
	last := uint64(0)
	for from := 0; from < n; from += 30 {
		for _, d := range x.expect(mapping.Events, numbers(from, from+30)...) {
			if d.Sequence <= last || d.Address != event(pump) {
				t.Errorf("sequence %d behind %d, address %+v", d.Sequence, last, d.Address)
			}
			last = d.Sequence
			d.Settle()
		}
	}
	rest.Wait()
	x.flush()
	eventually(t, "nothing is queued", func() bool { return h.queued(t, pump) == 0 })
	h.publish(t, event(pump), "end")
	x.settle(mapping.Events, "end")
	x.stop(nil)
}

// laneOrderOfMany: what one program published keeps its order among that of others, and nothing is missing.
func laneOrderOfMany(t *testing.T, h *LaneHouse) {
	const programs, n = 4, 20
	x := h.take(t, pump)
	var all sync.WaitGroup
	for k := range programs {
		all.Go(func() {
			for i := range n {
				if err := h.Publish(t.Context(), event(pump), fmt.Appendf(nil, "%d %d", k, i), ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	next := [programs]int{}
	for range programs * n {
		d, k, i := x.next(mapping.Events), 0, 0
		_, err := fmt.Sscan(string(d.Payload), &k, &i)
		must(t, err)
		if i != next[k] {
			t.Fatalf("of %d comes %d, want %d", k, i, next[k])
		}
		next[k]++
		d.Settle()
	}
	all.Wait()
	x.stop(nil)
}

// laneFloor: after Flush nothing that was settled comes again, whatever happens; all the rest does, before what is newer.
func laneFloor(t *testing.T, h *LaneHouse) {
	h.publish(t, event(pump), numbers(0, 20)...)
	x := h.take(t, pump)
	for i, d := range x.expect(mapping.Events, numbers(0, 10)...) {
		if i < 6 {
			d.Settle()
		}
	}
	x.flush()
	x.stop(nil)
	h = h.Kill()
	h.publish(t, event(pump), "20")
	x = h.take(t, pump)
	x.expect(mapping.Events, numbers(6, 21)...)
	x.stop(nil)
	x = h.take(t, pump) // and again
	x.settle(mapping.Events, numbers(6, 21)...)
	x.stop(nil)
}

// laneKill: what was not settled comes again, in order, and of what was settled only the end.
func laneKill(t *testing.T, h *LaneHouse) {
	h.publish(t, event(pump), numbers(0, 20)...)
	x := h.take(t, pump)
	for i, d := range x.expect(mapping.Events, numbers(0, 10)...) {
		if i < 6 {
			d.Settle()
		}
	}
	x.stop(nil)
	h = h.Kill()
	x = h.take(t, pump)
	d, first := x.next(mapping.Events), 0
	_, err := fmt.Sscan(string(d.Payload), &first)
	must(t, err)
	if first > 6 {
		t.Fatalf("it goes on with %d, 6 was not settled", first)
	}
	d.Settle()
	x.settle(mapping.Events, numbers(first+1, 20)...)
	x.stop(nil)
}

// laneKinds: messages of one kind that nobody takes or settles keep neither another kind nor another Thing waiting.
func laneKinds(t *testing.T, h *LaneHouse) {
	h.publish(t, event(pump), numbers(0, 200)...)
	x, y := h.take(t, pump), h.take(t, fan)
	x.expect(mapping.Events, "0")
	h.publish(t, report(pump), "r")
	h.publish(t, response(pump, "e"), "c")
	h.publish(t, mapping.Address{Thing: pump, Channel: mapping.JobsGet}, "j")
	h.publish(t, event(fan), "f")
	x.settle(mapping.Shadow, "r")
	x.settle(mapping.Commands, "c")
	x.settle(mapping.Jobs, "j")
	y.settle(mapping.Events, "f")
	x.flush()
	y.flush()
	if n := h.queued(t, pump); n != 200 {
		t.Errorf("%d are queued, want 200", n)
	}
	x.stop(nil)
	y.stop(nil)
}

// laneTakenOver: the lanes have one owner, the last, who gets all that is not settled.
func laneTakenOver(t *testing.T, h *LaneHouse) {
	h.publish(t, event(pump), numbers(0, 5)...)
	x := h.take(t, pump)
	x.settle(mapping.Events, "0")
	x.flush()
	late := x.expect(mapping.Events, "1", "2")
	y := h.take(t, pump)
	y.expect(mapping.Events, numbers(1, 5)...)
	x.stop(bridge.ErrTakenOver)
	for _, d := range late {
		d.Settle()
	}
	h.publish(t, event(pump), "5")
	y.expect(mapping.Events, "5")
	y.stop(nil)
}

// laneRemoved: what the lanes hold stays when they are let go.
func laneRemoved(t *testing.T, h *LaneHouse) {
	h.publish(t, event(pump), numbers(0, 4)...)
	x := h.take(t, pump)
	x.settle(mapping.Events, "0", "1")
	x.flush()
	x.stop(nil)
	must(t, x.lanes.Remove(deadline(t)))
	h.publish(t, event(pump), "4")
	x = h.take(t, pump)
	x.settle(mapping.Events, "2", "3", "4")
	x.stop(nil)
}

// laneThings: nobody publishes for a Thing that is not there, and what waits for it stays.
func laneThings(t *testing.T, h *LaneHouse) {
	h.publish(t, event(fan), "1", "2")
	must(t, h.SetThings(deadline(t), []mapping.Thing{pump}))
	if h.Publish(deadline(t), event(fan), []byte("3"), "") == nil {
		t.Error("a publish for a Thing that is not there is taken")
	}
	if _, err := h.Enqueue(deadline(t), event(fan), []byte("3"), bridge.Trace{}); err == nil {
		t.Error("the bridge's own is taken")
	}
	h.publish(t, event(pump), "p")
	left, err := h.Left(deadline(t), []mapping.Thing{fan})
	must(t, err)
	if left[fan] != 2 || h.queued(t, pump) != 1 {
		t.Errorf("left %v", left)
	}
	must(t, h.SetThings(deadline(t), []mapping.Thing{fan, pump}))
	h.publish(t, event(fan), "3")
	x := h.take(t, fan)
	x.settle(mapping.Events, "1", "2", "3")
	x.stop(nil)
}

func laneIDs(t *testing.T, h *LaneHouse) {
	publish := func(a mapping.Address, id string) {
		t.Helper()
		must(t, h.Publish(deadline(t), a, []byte(id), id))
	}
	publish(event(pump), "a")
	publish(event(pump), "a")
	publish(event(pump), "b")
	publish(event(pump), "a")
	h = h.Kill()
	publish(event(pump), "b")
	publish(event(pump), "c")
	x := h.take(t, pump)
	x.settle(mapping.Events, "a", "b", "c")
	x.flush()
	publish(event(pump), "c") // settled or not
	publish(event(pump), "d")
	x.settle(mapping.Events, "d")
	x.stop(nil)
}

// laneEnqueue: what the bridge writes travels with what programs publish, as it is.
func laneEnqueue(t *testing.T, h *LaneHouse) {
	a, trace := response(pump, "e"), bridge.Trace{Parent: "00-1-2-01", State: "a=b"}
	h.publish(t, a, "1")
	before := time.Now().Add(-time.Second)
	first, err := h.Enqueue(deadline(t), a, []byte("2\x00\xff"), trace)
	must(t, err)
	h.publish(t, a, "3")
	second, err := h.Enqueue(deadline(t), a, nil, bridge.Trace{})
	must(t, err)
	if first.Stream == "" || second.Stream != first.Stream || second.Sequence <= first.Sequence {
		t.Errorf("receipts %+v, %+v", first, second)
	}
	h = h.Kill()
	x := h.take(t, pump)
	ds := x.expect(mapping.Commands, "1", "2\x00\xff", "3", "")
	if d := ds[1]; d.Address != a || d.Trace != trace || d.Sequence != first.Sequence || d.Received.Before(before) || d.Received.After(time.Now().Add(time.Second)) {
		t.Errorf("%+v", d.Message)
	}
	x.stop(nil)
}

func lanePending(t *testing.T, h *LaneHouse) {
	expect := func(id string, want bool) {
		t.Helper()
		if got, err := h.Pending(deadline(t), response(pump, id)); err != nil || got != want {
			t.Errorf("%s is pending: %v, %v", id, got, err)
		}
	}
	expect("e", false)
	_, err := h.Enqueue(deadline(t), response(pump, "e"), []byte("1"), bridge.Trace{})
	must(t, err)
	h.publish(t, response(pump, "f"), "2")
	expect("e", true)
	expect("f", true)
	expect("g", false)
	h = h.Kill()
	expect("e", true)
	x := h.take(t, pump)
	d := x.expect(mapping.Commands, "1", "2")
	expect("e", true)
	d[0].Settle()
	x.flush()
	eventually(t, "it is not pending", func() bool {
		is, err := h.Pending(deadline(t), response(pump, "e"))
		return err == nil && !is
	})
	expect("f", true)
	x.stop(nil)
}

func laneTooLarge(t *testing.T, h *LaneHouse) {
	if h.TooLarge == 0 {
		t.Skip("there is no limit")
	}
	large := make([]byte, h.TooLarge)
	if h.Publish(deadline(t), event(pump), large, "") == nil {
		t.Error("a program's is taken")
	}
	if _, err := h.Enqueue(deadline(t), event(pump), large, bridge.Trace{}); err == nil {
		t.Error("the bridge's own is taken")
	}
	half := bytes.Repeat([]byte("x"), h.TooLarge/2)
	h.publish(t, event(pump), string(half), "small")
	x := h.take(t, pump)
	x.settle(mapping.Events, string(half), "small")
	x.stop(nil)
}

// laneFull: what is full refuses and forgets nothing, and has room when something is settled.
func laneFull(t *testing.T, h *LaneHouse) {
	payload := func(i int) string { return fmt.Sprintf("%d %01000d", i, 0) }
	ctx := deadline(t)
	var stored []string
	for h.Publish(ctx, event(pump), []byte(payload(len(stored))), "") == nil {
		if stored = append(stored, payload(len(stored))); len(stored) > 1000 {
			t.Fatal("it is never full")
		}
	}
	must(t, ctx.Err())
	if len(stored) < 10 {
		t.Fatalf("full with %d", len(stored))
	}
	if _, err := h.Enqueue(ctx, event(pump), []byte(payload(0)), bridge.Trace{}); err == nil {
		t.Error("the bridge's own is taken")
	}
	h = h.Kill()
	x := h.take(t, pump)
	x.settle(mapping.Events, stored...)
	x.flush()
	eventually(t, "there is room again", func() bool {
		return h.Publish(deadline(t), event(pump), []byte(payload(0)), "") == nil
	})
	x.settle(mapping.Events, payload(0))
	x.stop(nil)
}

func laneCounts(t *testing.T, h *LaneHouse) {
	expect := func(queued, accepted uint64) {
		t.Helper()
		got, err := h.Accepted(deadline(t))
		must(t, err)
		if n := h.queued(t, pump); n != queued || got != accepted {
			t.Errorf("%d are queued, %d accepted, want %d and %d", n, got, queued, accepted)
		}
	}
	expect(0, 0)
	began := time.Now().Add(-time.Second)
	h.publish(t, event(pump), numbers(0, 3)...)
	h.publish(t, response(pump, "e"), "c")
	expect(4, 4)
	x := h.take(t, pump)
	ds := append(x.expect(mapping.Events, numbers(0, 3)...), x.expect(mapping.Commands, "c")...)
	if at, waits := x.lanes.Oldest(); !waits || at.Before(began) || at.After(time.Now().Add(time.Second)) {
		t.Errorf("the oldest waits since %v, %v", at, waits)
	}
	ds[0].Settle()
	x.flush()
	expect(3, 4)
	x.stop(nil)
	h = h.Kill()
	expect(3, 3) // what waits at the start counts
	x = h.take(t, pump)
	x.settle(mapping.Events, "1", "2")
	x.settle(mapping.Commands, "c")
	if _, waits := x.lanes.Oldest(); waits {
		t.Error("something waits, and all is settled")
	}
	x.flush()
	expect(0, 3)
	x.stop(nil)
}

// laneNothing: lanes that have nothing end when they are told to, also while somebody takes from them.
func laneNothing(t *testing.T, h *LaneHouse) {
	x := h.take(t, pump)
	ctx, cancel := context.WithCancel(t.Context())
	taken := make(chan []bridge.Delivery, len(mapping.Kinds))
	for _, k := range mapping.Kinds {
		go func() { taken <- slices.Clone(x.lanes.Lane(k).Take(ctx)) }()
	}
	if _, waits := x.lanes.Oldest(); waits {
		t.Error("something waits")
	}
	x.flush()
	x.stop(nil)
	cancel()
	for range mapping.Kinds {
		select {
		case ds := <-taken:
			if len(ds) > 0 {
				t.Errorf("taken: %+v", ds)
			}
		case <-deadline(t).Done():
			t.Fatal("Take does not return")
		}
	}
	must(t, x.lanes.Remove(deadline(t)))
}
