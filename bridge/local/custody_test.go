package local

import (
	"os"
	"path/filepath"
	"testing"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// A store must not start silently with less than it had.
func TestDamagedStoreIsReported(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(t *testing.T, block string)
		want   string
		clean  bool // the index is there, as after an orderly stop
	}{
		"emptied": {func(t *testing.T, block string) { truncate(t, block, 0) }, "ERROR the end of a stream is missing", false},
		"cut":     {func(t *testing.T, block string) { truncate(t, block, 700) }, "ERROR the end of a stream is missing", false},
		"removed": {func(t *testing.T, block string) {
			if err := os.Remove(block); err != nil {
				t.Fatal(err)
			}
		}, "ERROR the end of a stream is missing", false},
		"untouched":                 {func(*testing.T, string) {}, "", false},
		"emptied, with its index":   {func(t *testing.T, block string) { truncate(t, block, 0) }, "ERROR messages are missing from a stream", true},
		"cut, with its index":       {func(t *testing.T, block string) { truncate(t, block, 700) }, "ERROR messages are missing from a stream", true},
		"untouched, with its index": {func(*testing.T, string) {}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRigWith(t, embedded.Config{}, StoreConfig{})
			for range 10 {
				down(t, r, bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.JobsNotify}, Payload: make([]byte, 100)})
			}
			for range 2 { // the second finds nothing to write
				if err := r.store.Note(testContext(t), true); err != nil {
					t.Fatal(err)
				}
			}
			r.stop()
			blocks, err := filepath.Glob(filepath.Join(r.dir, "jetstream", "*", "streams", "FLEETS_DOWN", "msgs", "*.blk"))
			if err != nil || len(blocks) != 1 {
				t.Fatal(blocks, err)
			}
			if !c.clean {
				_ = os.Remove(filepath.Join(filepath.Dir(blocks[0]), "index.db")) // as after a crash
			}
			c.damage(t, blocks[0])
			r.journal.forgive("nats: ", "the end of a stream is missing", "messages are missing")
			r.start(embedded.Config{}, StoreConfig{})
			if c.want != "" {
				r.journal.expect(t, c.want, "FLEETS_DOWN", "messages_lost=")
			} else if n := r.journal.count("ERROR"); n > 0 {
				t.Errorf("%d errors about a whole store", n)
			}
		})
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// TestCustodyUnreadable: whatever stands in the place of the record, the store opens, and says so.
func TestCustodyUnreadable(t *testing.T) {
	t.Parallel()
	for _, record := range []string{"null", "", "zz", "[1]", `{"FLEETS_DOWN":7}`} {
		r := newRig(t, "pump")
		r.journal.forgive("the record of what the streams held is damaged", "is missing")
		if err := r.store.bucket(wire.BucketMarks).Put(testContext(t), custodyKey, []byte(record)); err != nil {
			t.Fatal(err)
		}
		r.store.Close()
		store, err := Open(testContext(t), r.nc, StoreConfig{Subjects: r.subjects, Things: []mapping.Thing{"pump"}}, r.journal.log())
		if err != nil {
			t.Fatalf("%q: %v", record, err)
		}
		store.Close()
	}
}
