package local

import (
	"os"
	"os/exec"
	ossignal "os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// TestFullDisk runs in a process of its own, because the limit on file sizes that stands for a full
// disk is the whole process's.
func TestFullDisk(t *testing.T) {
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
	r.journal.forgive("nats: ", "the disk refuses", "cannot store", "NATS connection lost")
	q, _ := r.run("pump", mapping.Telemetry)
	nc := r.program()
	payload := strings.Repeat("x", 10_000)
	r.publish(nc, "fleets.up.pump.events.x", payload)
	first := next(t, q)

	unlimited := limitFiles(t, 300_000)
	stored, failed := 1, 0
	for failed < 3 {
		m, err := nc.Request("fleets.up.pump.events.x", []byte(payload), 2*time.Second)
		switch {
		case err != nil || strings.Contains(string(m.Data), `"error"`):
			failed++
		default:
			stored++
		}
	}
	r.journal.expect(t, "ERROR the disk refuses")
	m, err := nc.Request("fleets.up.pump.events.x", nil, 5*time.Second)
	if err != nil || !strings.Contains(string(m.Data), `"error"`) {
		t.Errorf("not refused at once: %v", err)
	}
	first.Settle() // lost, for now
	limitFiles(t, unlimited)
	r.journal.expect(t, "INFO the disk takes messages again")

	for range stored - 1 {
		next(t, q).Settle()
	}
	eventually(t, "all settled", func() bool {
		queued, err := r.store.Queued(testContext(t))
		return err == nil && queued["pump"] == 0
	})
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

func TestSpace(t *testing.T) {
	free, total, err := space(t.TempDir())
	if err != nil || free == 0 || total < free {
		t.Errorf("%d of %d, %v", free, total, err)
	}
	if _, _, err := space("/does/not/exist"); err == nil {
		t.Error("no error")
	}
}
