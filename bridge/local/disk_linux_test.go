package local

import (
	"os"
	"os/exec"
	ossignal "os/signal"
	"strings"
	"syscall"
	"testing"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// TestFullDisk runs in a process of its own, because the limit on file sizes that stands for a full
// disk is the whole process's.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getenv("FLEETBRIDGE_FULL_DISK") == "" {
		child := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
		child.Env = append(os.Environ(), "FLEETBRIDGE_FULL_DISK=1")
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	ossignal.Ignore(syscall.SIGXFSZ)
	r := newRig(t, "pump")
	r.journal.forgive("nats: ", "the disk refuses", "cannot store", "NATS connection lost", "the journal can't be written", "the disk is nearly full")
	q, _ := r.run("pump", mapping.Events)
	nc := r.program()
	payload := strings.Repeat("x", 10_000)
	r.publish(nc, "fleets.up.pump.events.x", payload)
	first := next(t, q)
	if _, err := r.nc.Request("_fleets.down.pump.jobs.notify", make([]byte, 290_000), patience); err != nil { // the journal has not so much
		t.Fatal(err)
	}

	unlimited := limitFiles(t, 300_000)
	came := make(chan error, 1)
	m := bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.JobsNotify}, Payload: make([]byte, 20_000)}
	if err := r.store.Down().Send(testContext(t), m, func(err error) { came <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-came; err != nil { // nobody waits for the stream
		t.Error(err)
	}
	r.journal.expect(t, "ERROR the disk refuses")
	stored, failed := 1, 0
	for failed < 3 {
		if answer := r.publish(nc, "fleets.up.pump.events.x", payload); strings.Contains(answer, `"error"`) {
			failed++
		} else {
			stored++
		}
	}
	eventually(t, "it is a trouble", func() bool { return strings.Contains(strings.Join(r.store.Troubles(), " "), "journal: cannot store") })
	first.Settle()
	limitFiles(t, unlimited)
	r.journal.expect(t, "INFO the disk takes messages again")
	if last, err := r.store.Last(testContext(t), m.Address); err != nil || len(last.Payload) != len(m.Payload) {
		t.Errorf("the last has %d bytes, %v", len(last.Payload), err)
	}
	eventually(t, "there is no trouble", func() bool {
		r.spool.Check(testContext(t))
		return len(r.store.Troubles()) == 0
	})

	for range stored - 1 {
		next(t, q).Settle()
	}
	if n := queuedOf(t, r, "pump"); n != 0 {
		t.Errorf("%d are queued", n)
	}
	r.publish(nc, "fleets.up.pump.events.x", "new")
	if d := next(t, q); string(d.Payload) != "new" {
		t.Errorf("%d bytes", len(d.Payload))
	}
	down(t, r, bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.JobsNotify}})
	if err := r.store.Status().Put(testContext(t), "pump", []byte("{}")); err != nil {
		t.Error("the bucket in memory:", err)
	}
}

// limitFiles sets how large a file may become and returns what it was.
func limitFiles(t *testing.T, n uint64) uint64 {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	return old.Cur
}
