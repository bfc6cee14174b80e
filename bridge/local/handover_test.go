package local

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/mapping"
)

func consumerThere(t *testing.T, r *rig) bool {
	t.Helper()
	_, err := r.store.up[mapping.Telemetry].Consumer(testContext(t), "pump")
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// settledTo is the sequence up to which nothing in the stream is unsettled; 0 when nobody knows.
func (h *handover) settledTo() uint64 {
	floor, _ := h.settledIn()
	return floor
}

// TestHandover: what is published while a queue runs reaches it without a consumer; what the stream holds from
// before comes first, by a consumer that is gone when that is done.
func TestHandover(t *testing.T) {
	r := newRig(t, "pump")
	nc := r.program()
	for i := range 3 {
		r.publish(nc, "fleets.up.pump.events.x", fmt.Sprint(i))
	}
	q, stop := r.run("pump", mapping.Telemetry)
	for i := 3; i < 6; i++ {
		r.publish(nc, "fleets.up.pump.events.x", fmt.Sprint(i))
	}
	for i := range 6 {
		if d := next(t, q); string(d.Payload) != fmt.Sprint(i) || d.Sequence != uint64(i+1) {
			t.Fatalf("%s, sequence %d, want %d", d.Payload, d.Sequence, i)
		} else if i < 5 {
			d.Settle()
		}
	}
	eventually(t, "no consumer", func() bool { return q.isDirect() && !consumerThere(t, r) })
	r.publish(nc, "fleets.up.pump.events.x", "6")
	if d := next(t, q); string(d.Payload) != "6" || d.Sequence != 7 || consumerThere(t, r) {
		t.Errorf("%s, sequence %d", d.Payload, d.Sequence)
	}
	stop()
	if err := q.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	r.publish(nc, "fleets.up.pump.events.x", "7")
	q, _ = r.run("pump", mapping.Telemetry)
	for i := 5; i < 8; i++ { // nothing of it was settled
		if d := next(t, q); string(d.Payload) != fmt.Sprint(i) {
			t.Fatalf("%s, want %d", d.Payload, i)
		}
	}
}

// TestHandoverFull: a queue that has no room reads what it missed when it has room again, in order and once,
// and is handed the rest.
func TestHandoverFull(t *testing.T) {
	r := newRigWith(t, ServerConfig{}, StoreConfig{})
	q, _ := r.run("pump", mapping.Telemetry)
	nc := r.program()
	const n = handoverMessages + 500
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(n)) // it does not wait for room
	if err != nil {
		t.Fatal(err)
	}
	publish := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if _, err := js.PublishAsync("fleets.up.pump.events.x", []byte(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-js.PublishAsyncComplete():
		case <-testContext(t).Done():
			t.Fatal("not published")
		}
	}
	publish(0, n)
	if q.isDirect() {
		t.Fatal("it has room for all")
	}
	if got := r.store.handovers[mapping.Telemetry].bytes.Load(); got <= 0 {
		t.Errorf("%d bytes in memory", got)
	}
	for i := range n + 100 {
		if i == n-1 {
			publish(n, n+100)
		}
		d := next(t, q)
		if string(d.Payload) != fmt.Sprint(i) {
			t.Fatalf("%s, want %d", d.Payload, i)
		}
		d.Settle()
	}
	eventually(t, "all is forgotten", func() bool { return queuedOf(t, r, "pump") == 0 })
	eventually(t, "no consumer", func() bool { return q.isDirect() && !consumerThere(t, r) })
	if got := r.store.handovers[mapping.Telemetry].bytes.Load(); got != 0 {
		t.Errorf("%d bytes in memory, with nothing there", got)
	}
}

// TestStoredPastTheIntake: what somebody else has put into the stream is noticed by the next group, or when
// what waits is counted; it comes in the stream's order.
func TestStoredPastTheIntake(t *testing.T) {
	r := newRig(t, "pump", "fan")
	q, _ := r.run("pump", mapping.Telemetry)
	past := func(payload string) {
		t.Helper()
		if _, err := r.nc.Request("_fleets.up.pump.events.x", []byte(payload), answerTime); err != nil {
			t.Fatal(err)
		}
	}
	past("1")
	queuedOf(t, r, "pump")
	if d := next(t, q); string(d.Payload) != "1" {
		t.Errorf("%s", d.Payload)
	}
	past("2")
	r.publish(r.program(), "fleets.up.pump.events.x", "3")
	for _, want := range []string{"2", "3"} {
		if d := next(t, q); string(d.Payload) != want {
			t.Errorf("%s, want %s", d.Payload, want)
		}
	}
	past("4")
	r.publish(r.program(), "fleets.up.fan.events.x", "5")
	if d := next(t, q); string(d.Payload) != "4" {
		t.Errorf("%s", d.Payload)
	}
}

// TestToldBeforeThePubAck: a consumer may be quicker than the PubAck. What it has told is not handed over as well.
func TestToldBeforeThePubAck(t *testing.T) {
	r := newRig(t, "pump")
	q, stop := r.run("pump", mapping.Telemetry)
	r.publish(r.program(), "fleets.up.pump.events.x", "1")
	next(t, q)
	stop()
	q.standing = direct
	q.give(&nats.Msg{Subject: "fleets.up.pump.events.x"}, 1, time.Now())
	if n := q.ready.len(); n != 0 {
		t.Errorf("%d once more", n)
	}
}

// TestDuplicateIsHandedOverOnce: the stream knows the message id.
func TestDuplicateIsHandedOverOnce(t *testing.T) {
	r := newRig(t, "pump")
	q, _ := r.run("pump", mapping.Telemetry)
	js, err := jetstream.New(r.program())
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range []string{"a", "a", "b"} {
		if _, err := js.Publish(testContext(t), "fleets.up.pump.events.x", []byte(fmt.Sprint(i)), jetstream.WithMsgID(id)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"0", "2"} {
		if d := next(t, q); string(d.Payload) != want {
			t.Errorf("%s, want %s", d.Payload, want)
		}
	}
}

// TestStreamThatLostItsEnd: sequences that are given away again belong to new messages; what an old delivery
// settles is not taken for them.
func TestStreamThatLostItsEnd(t *testing.T) {
	r := newRig(t, "pump")
	h := r.store.handovers[mapping.Telemetry]
	q, _ := r.run("pump", mapping.Telemetry)
	nc := r.program()
	r.publish(nc, "fleets.up.pump.events.x", "1")
	old := next(t, q)
	h.align(5) // as if more had been there
	h.align(1)
	if d := next(t, q); string(d.Payload) != "1" { // once more, as nobody knows what is left
		t.Errorf("%s", d.Payload)
	}
	old.Settle()
	if floor := h.settledTo(); floor != 0 {
		t.Errorf("settled up to %d", floor)
	}
}

// TestMemoryOfAQueueThatIsGone: what it had in memory counts no longer, also when it is settled late.
func TestMemoryOfAQueueThatIsGone(t *testing.T) {
	r := newRig(t, "pump")
	h := r.store.handovers[mapping.Telemetry]
	nc := r.program()
	q, stop := r.run("pump", mapping.Telemetry)
	for range 3 {
		r.publish(nc, "fleets.up.pump.events.x", "1")
	}
	d := next(t, q)
	stop()
	next, stop := r.run("pump", mapping.Telemetry)
	d.Settle()
	stop()
	if err := next.Remove(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if n := h.bytes.Load(); n != 0 {
		t.Errorf("%d bytes", n)
	}
}

// TestSettledTo: nothing is purged for all that one of the queues may still need.
func TestSettledTo(t *testing.T) {
	r := newRig(t, "a", "b")
	h := r.store.handovers[mapping.Telemetry]
	settled := func(want uint64) {
		t.Helper()
		if got := h.settledTo(); got != want {
			t.Errorf("settled up to %d, want %d", got, want)
		}
	}
	nc := r.program()
	a, stopA := r.run("a", mapping.Telemetry)
	b, stopB := r.run("b", mapping.Telemetry)
	for range 2 {
		r.publish(nc, "fleets.up.a.events.x", "1")
		r.publish(nc, "fleets.up.b.events.x", "1")
	}
	settled(0)
	next(t, a).Settle()
	settled(1)
	next(t, a).Settle()
	settled(1) // b's first
	next(t, b).Settle()
	settled(3)
	stopA()
	r.publish(nc, "fleets.up.a.events.x", "1") // 5: nobody's
	next(t, b).Settle()
	settled(4)
	stopB()
	settled(4)
	for _, q := range []*Queue{a, b} {
		if err := q.Flush(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	if queuedOf(t, r, "a") != 1 || queuedOf(t, r, "b") != 0 {
		t.Errorf("%d and %d are left", queuedOf(t, r, "a"), queuedOf(t, r, "b"))
	}
	if err := b.Remove(testContext(t)); err != nil {
		t.Fatal(err)
	}
	settled(4)
	if err := a.Remove(testContext(t)); err != nil {
		t.Fatal(err)
	}
	settled(0) // somebody who is not there
	a, _ = r.run("a", mapping.Telemetry)
	next(t, a).Settle()
	eventually(t, "all is settled", func() bool { return h.settledTo() == 5 })
}

// TestHeldUp: a Thing whose oldest message is not settled holds others up for a while only.
func TestHeldUp(t *testing.T) {
	r := newRig(t, "slow", "quick")
	nc := r.program()
	slow, _ := r.run("slow", mapping.Telemetry)
	quick, _ := r.run("quick", mapping.Telemetry)
	r.publish(nc, "fleets.up.slow.events.x", "1")
	r.publish(nc, "fleets.up.quick.events.x", "1")
	next(t, slow)
	next(t, quick).Settle()
	eventually(t, "the quick one's is forgotten", func() bool { return queuedOf(t, r, "quick") == 0 })
	if n := queuedOf(t, r, "slow"); n != 1 {
		t.Errorf("%d of the slow one are left", n)
	}
}
