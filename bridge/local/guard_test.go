package local

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

func TestGuard(t *testing.T) {
	r := newRigWith(t, ServerConfig{}, StoreConfig{Up: 1 << 20})
	nc := r.program()
	r.publish(nc, "fleets.up.pump.events.x", "1")
	var free atomic.Uint64
	free.Store(1 << 30)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- r.store.guard(ctx, time.Millisecond, func() (uint64, uint64, error) { return free.Load(), 1 << 32, nil })
	}()
	free.Store(maxReserve - 1)
	r.journal.expect(t, "ERROR the disk is nearly full")
	for _, subject := range []string{"fleets.up.pump.events.x", "fleets.up.pump.jobs.get"} {
		if answer := r.publish(nc, subject, "2"); !strings.Contains(answer, "maximum bytes exceeded") {
			t.Errorf("%s: %s", subject, answer)
		}
	}
	down(t, r, bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.JobsNotify}}) // goes on
	q, _ := r.run("pump", mapping.Telemetry)
	next(t, q).Settle()
	free.Store(maxReserve + 1) // not enough to be sure
	free.Store(maxReserve + maxReserve/4)
	r.journal.expect(t, "INFO the disk has room again")
	if answer := r.publish(nc, "fleets.up.pump.events.x", strings.Repeat("x", 10_000)); strings.Contains(answer, "error") {
		t.Error(answer)
	}
	if got := r.journal.count("the disk is nearly full"); got != 1 {
		t.Errorf("logged %d times", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestGuardAfterReload: a limit that comes and goes leaves the Things alone that were configured meanwhile.
func TestGuardAfterReload(t *testing.T) {
	r := newRig(t)
	ctx := testContext(t)
	if err := r.store.SetThings(ctx, []mapping.Thing{"pump", "valve"}); err != nil {
		t.Fatal(err)
	}
	nc := r.program()
	for _, full := range []bool{true, false} {
		if err := r.store.limit(ctx, full); err != nil {
			t.Fatal(err)
		}
	}
	for _, subject := range []string{"fleets.up.valve.events.x", "fleets.up.pump.jobs.get"} {
		if answer := r.publish(nc, subject, "1"); strings.Contains(answer, "error") {
			t.Errorf("%s: %s", subject, answer)
		}
	}
}

func TestGuardWithoutKnowledge(t *testing.T) {
	r := newRig(t)
	err := r.store.guard(testContext(t), time.Hour, func() (uint64, uint64, error) { return 0, 0, errors.ErrUnsupported })
	if err != nil {
		t.Error(err)
	}
}
