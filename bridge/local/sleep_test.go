package local

import (
	"errors"
	"testing"

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

// TestSleep: an empty queue has no consumer, the first message makes one, and an idle queue gives it up
// unless something is left.
func TestSleep(t *testing.T) {
	r := newRig(t, "pump")
	nc := r.program()
	q, stop := r.run("pump", mapping.Telemetry)
	if consumerThere(t, r) {
		t.Error("a consumer before the first message")
	}
	r.publish(nc, "fleets.up.pump.events.x", "1")
	d := next(t, q)
	stop()
	if q.doze(testContext(t)) {
		t.Fatal("it sleeps with a message in hand")
	}
	d.Settle()
	if err := q.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	r.publish(nc, "fleets.up.pump.events.x", "2")
	if q.doze(testContext(t)) {
		t.Fatal("it sleeps while the stream has a message")
	}
	q, stop = r.run("pump", mapping.Telemetry)
	next(t, q).Settle()
	if err := q.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	stop()
	if !q.doze(testContext(t)) || consumerThere(t, r) {
		t.Fatal("it stays awake")
	}
	if err := q.Flush(testContext(t)); err != nil {
		t.Error("asleep:", err)
	}
	r.publish(nc, "fleets.up.pump.events.x", "3")
	q, _ = r.run("pump", mapping.Telemetry)
	if d := next(t, q); string(d.Payload) != "3" {
		t.Errorf("%s", d.Payload)
	}
}

// TestSleeperMissed: the count of what waits wakes a queue that was not told.
func TestSleeperMissed(t *testing.T) {
	r := newRig(t, "pump")
	q, _ := r.run("pump", mapping.Telemetry)
	if _, err := r.nc.Request("_fleets.up.pump.events.x", []byte("1"), answerTime); err != nil { // past the intake
		t.Fatal(err)
	}
	if _, err := r.store.Queued(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if d := next(t, q); string(d.Payload) != "1" {
		t.Errorf("%s", d.Payload)
	}
}
