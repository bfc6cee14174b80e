package local

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/mapping"
)

// Interleavings of what is stored, read, settled and purged, each brought about step by step.

// past stores a message past the intake, as it is when the answer to a group is lost.
func past(t *testing.T, r *rig, subject, payload string) {
	t.Helper()
	m, err := r.nc.Request("_"+subject, []byte(payload), answerTime)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pubAck(m); err != nil {
		t.Fatal(err)
	}
}

// looked waits until the intake knows the stream's last message.
func looked(t *testing.T, r *rig, last uint64) {
	t.Helper()
	h := r.store.handovers[mapping.Telemetry]
	eventually(t, "the intake has looked", func() bool {
		_, _ = r.store.Queued(testContext(t))
		return h.known() == last
	})
}

// expect takes deliveries and settles them.
func expect(t *testing.T, q *Queue, want ...string) {
	t.Helper()
	for _, w := range want {
		d := next(t, q)
		if string(d.Payload) != w {
			t.Fatalf("%s, want %s", d.Payload, w)
		}
		d.Settle()
	}
}

// told asks the queue's consumer and returns what comes to nobody but the test.
func told(t *testing.T, r *rig, q *Queue) *nats.Subscription {
	t.Helper()
	inbox := r.nc.NewInbox()
	sub, err := r.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	q.pull(inbox, pullBatch)
	return sub
}

// TestStoredWhileCatchingUp: the consumer's word that it has nothing more may be older than the intake's that
// somebody else has stored something.
func TestStoredWhileCatchingUp(t *testing.T) {
	r := newRig(t, "pump")
	r.publish(r.program(), "fleets.up.pump.events.x", "1")
	q, err := r.store.Queue(testContext(t), "pump", mapping.Telemetry)
	if err != nil {
		t.Fatal(err)
	}
	m, err := told(t, r, q).NextMsg(answerTime)
	if err != nil {
		t.Fatal(err)
	}
	past(t, r, "fleets.up.pump.events.x", "2")
	looked(t, r, 2)
	if _, err := q.come(testContext(t), m); err != nil {
		t.Fatal(err)
	}
	start(t, q)
	expect(t, q, "1", "2")
	eventually(t, "it has caught up", q.isDirect)
	eventually(t, "all is forgotten", func() bool { return queuedOf(t, r, "pump") == 0 })
}

// TestStoredForSomebodyWithoutAQueue: what was stored past the intake for a Thing that has no queue is not purged
// with what the others have settled, and its queue begins with it.
func TestStoredForSomebodyWithoutAQueue(t *testing.T) {
	r := newRig(t, "pump", "fan")
	nc := r.program()
	pump, _ := r.run("pump", mapping.Telemetry)
	past(t, r, "fleets.up.fan.events.x", "1")
	looked(t, r, 1)
	r.publish(nc, "fleets.up.pump.events.x", "2")
	expect(t, pump, "2")
	past(t, r, "fleets.up.fan.events.x", "3")
	r.publish(nc, "fleets.up.pump.events.x", "4")
	expect(t, pump, "4")
	eventually(t, "the pump's is forgotten", func() bool { return queuedOf(t, r, "pump") == 0 })
	if err := pump.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if n := queuedOf(t, r, "fan"); n != 2 {
		t.Fatalf("%d of the fan's are left", n)
	}
	fan, _ := r.run("fan", mapping.Telemetry)
	expect(t, fan, "1", "3")
	eventually(t, "all is settled", func() bool { return r.store.handovers[mapping.Telemetry].settledTo() == 4 })
}

// TestLostEndWhileFollowing: a queue that reads the stream when that has lost its end forgets what it handed out,
// and is told all of it once more.
func TestLostEndWhileFollowing(t *testing.T) {
	r := newRigWith(t, ServerConfig{}, StoreConfig{Window: 2})
	h := r.store.handovers[mapping.Telemetry]
	nc := r.program()
	for i := range 4 {
		r.publish(nc, "fleets.up.pump.events.x", fmt.Sprint(i))
	}
	q, _ := r.run("pump", mapping.Telemetry)
	next(t, q)
	next(t, q) // the window is full
	h.align(10)
	h.align(4)
	expect(t, q, "0", "1", "2", "3")
	eventually(t, "all is forgotten", func() bool { return queuedOf(t, r, "pump") == 0 })
}

// TestLostEndWhileCrowded: nor does it wait for what it has forgotten to be settled.
func TestLostEndWhileCrowded(t *testing.T) {
	r := newRigWith(t, ServerConfig{}, StoreConfig{Window: pullBatch})
	h := r.store.handovers[mapping.Telemetry]
	nc := r.program()
	q, _ := r.run("pump", mapping.Telemetry)
	for i := range 3 {
		r.publish(nc, "fleets.up.pump.events.x", fmt.Sprint(i))
	}
	for range 3 {
		next(t, q)
	}
	h.align(10) // it is to read, and has no room
	eventually(t, "it waits", func() bool { return len(q.wake) == 0 && len(q.ready.room) == 0 })
	h.align(3)
	expect(t, q, "0", "1", "2")
}

// TestNumbersGivenAwayAgain: a message with a lower number than one that was handed out before it holds up what is
// purged.
func TestNumbersGivenAwayAgain(t *testing.T) {
	r := newRig(t, "pump")
	h := r.store.handovers[mapping.Telemetry]
	q, _ := r.run("pump", mapping.Telemetry)
	enter := func(seq uint64) {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.enter(&nats.Msg{Subject: "fleets.up.pump.events.x"}, seq, handed{at: time.Now()})
	}
	h.align(100)
	enter(95)
	old := next(t, q)
	enter(91)
	if floor := q.settledTo(100); floor >= 91 {
		t.Errorf("settled up to %d", floor)
	}
	old.Settle()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.floor >= 91 {
		t.Errorf("the floor is %d", q.floor)
	}
}

// TestReplacedQueueMakesNoConsumer: not even one that was making it anew.
func TestReplacedQueueMakesNoConsumer(t *testing.T) {
	r := newRig(t, "pump")
	old, err := r.store.Queue(testContext(t), "pump", mapping.Telemetry)
	if err != nil {
		t.Fatal(err)
	}
	q, _ := r.run("pump", mapping.Telemetry)
	eventually(t, "no consumer", func() bool { return q.isDirect() && !consumerThere(t, r) })
	if err := old.remake(testContext(t), answerTime); !errors.Is(err, ErrTakenOver) {
		t.Errorf("%v", err)
	}
	if consumerThere(t, r) {
		t.Error("there is a consumer")
	}
}

// TestConsumerThatCouldNotBeRemoved: it may have told somebody who was gone, so the queue does not go on with it.
func TestConsumerThatCouldNotBeRemoved(t *testing.T) {
	r := newRig(t, "pump")
	r.publish(r.program(), "fleets.up.pump.events.x", "1")
	q, err := r.store.Queue(testContext(t), "pump", mapping.Telemetry)
	if err != nil {
		t.Fatal(err)
	}
	nobody := told(t, r, q)
	m, err := nobody.NextMsg(answerTime)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.come(testContext(t), m); err != nil || !q.isDirect() {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	q.drop(over)
	past(t, r, "fleets.up.pump.events.x", "2")
	if _, err := nobody.NextMsg(answerTime); err != nil {
		t.Fatal(err)
	}
	looked(t, r, 2)
	start(t, q)
	expect(t, q, "1", "2")
}

// TestPurgeAfterOutage: what was settled before JetStream was started again is not purged by its number before
// somebody has looked whose numbers they are now.
func TestPurgeAfterOutage(t *testing.T) {
	ctx := testContext(t)
	type era struct{ context.Context }
	var working atomic.Pointer[era]
	working.Store(&era{ctx})
	r := newRigWith(t, ServerConfig{}, StoreConfig{Working: func() context.Context { return working.Load() }})
	nc := r.program()
	q, _ := r.run("pump", mapping.Telemetry)
	for range 3 {
		r.publish(nc, "fleets.up.pump.events.x", "old")
	}
	over, end := context.WithCancel(ctx)
	end()
	working.Store(&era{over})
	expect(t, q, "old", "old", "old")
	js, err := jetstream.New(r.nc)
	if err != nil {
		t.Fatal(err)
	}
	config := r.store.up[mapping.Telemetry].CachedInfo().Config
	if err := js.DeleteStream(ctx, config.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	past(t, r, "fleets.up.pump.events.x", "1")
	past(t, r, "fleets.up.pump.events.x", "2")
	r.journal.forgive("trying again")
	working.Store(&era{ctx})
	_ = q.Flush(ctx) // or it may be refused
	expect(t, q, "1", "2")
	eventually(t, "all is forgotten", func() bool { return queuedOf(t, r, "pump") == 0 })
}

// TestNoRoomNoConsumers: a queue whose memory is full goes on with one consumer, as each new one tells everything
// once more.
func TestNoRoomNoConsumers(t *testing.T) {
	r := newRig(t, "pump")
	nc := r.program()
	q, _ := r.run("pump", mapping.Telemetry)
	const n = 8
	for range n {
		r.publish(nc, "fleets.up.pump.events.x", string(make([]byte, handoverBytes/(n-1))))
	}
	for range n {
		next(t, q)
	}
	created := func() time.Time {
		c, err := r.store.up[mapping.Telemetry].Consumer(testContext(t), "pump")
		if err != nil {
			t.Fatal(err)
		}
		return c.CachedInfo().Created
	}
	first := created()
	for range 3 {
		r.publish(nc, "fleets.up.pump.events.x", "1")
		if d := next(t, q); string(d.Payload) != "1" {
			t.Fatal("told once more")
		}
	}
	if !created().Equal(first) {
		t.Error("the consumer was made anew")
	}
}

// TestSilentConsumer: a queue whose consumer has nothing to tell any more asks whether that was all.
func TestSilentConsumer(t *testing.T) {
	r := newRig(t, "pump")
	q, err := r.store.Queue(testContext(t), "pump", mapping.Telemetry)
	if err != nil {
		t.Fatal(err)
	}
	q.open = 2
	end := nats.NewMsg("x")
	end.Header.Set("Nats-Pending-Messages", "1")
	for _, want := range []bool{false, true} {
		if again, err := q.ended(testContext(t), "408", end); again != want || err != nil {
			t.Errorf("again %v, %v, want %v", again, err, want)
		}
	}
}

// TestRemovedWithNothingLeft: a Thing that is gone with nothing left does not hold up the purge for the others.
func TestRemovedWithNothingLeft(t *testing.T) {
	r := newRig(t, "a", "b")
	h := r.store.handovers[mapping.Telemetry]
	nc := r.program()
	a, stop := r.run("a", mapping.Telemetry)
	b, _ := r.run("b", mapping.Telemetry)
	stop()
	r.publish(nc, "fleets.up.b.events.x", "1")
	if err := a.Remove(testContext(t)); err != nil {
		t.Fatal(err)
	}
	expect(t, b, "1")
	eventually(t, "all is settled", func() bool { return h.settledTo() == 1 })
}

// TestQueueThatCouldNotBeMade leaves nothing behind.
func TestQueueThatCouldNotBeMade(t *testing.T) {
	r := newRig(t, "a", "b")
	h := r.store.handovers[mapping.Telemetry]
	nc := r.program()
	r.publish(nc, "fleets.up.a.events.x", "1")
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.store.Queue(over, "a", mapping.Telemetry); err == nil {
		t.Fatal("no error")
	}
	h.mu.Lock()
	n := len(h.queues)
	h.mu.Unlock()
	if n != 0 {
		t.Errorf("%d queues", n)
	}
	a, _ := r.run("a", mapping.Telemetry)
	expect(t, a, "1")
	eventually(t, "all is settled", func() bool { return h.settledTo() == 1 })
}

// TestFlushInTime: it does not wait for another's purge longer than it may.
func TestFlushInTime(t *testing.T) {
	r := newRig(t, "pump")
	q, _ := r.run("pump", mapping.Telemetry)
	q.forgetter.purging <- struct{}{}
	defer func() { <-q.forgetter.purging }()
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if err := q.Flush(over); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
