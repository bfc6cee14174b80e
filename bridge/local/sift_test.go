package local

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// TestUnreadableMessages: on an external server, flipped bits under a whole index cost what they hit, are said, and nobody
// waits for them.
func TestUnreadableMessages(t *testing.T) {
	t.Parallel()
	ctx, dir, j := testContext(t), t.TempDir(), newJournal(t)
	s := startPlain(t, server.RANDOM_PORT, dir, true)
	c := StoreConfig{Subjects: subjects(t), Things: []mapping.Thing{"pump"}, Window: 1}
	open := func() *Store {
		nc, err := wire.Dial(ctx, wire.DialConfig{URL: s.ClientURL(), Log: j.log()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		store, err := Open(ctx, nc, c, j.log())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		return store
	}
	store := open()
	for range 10 {
		if _, err := store.Enqueue(ctx, mapping.Address{Thing: "pump", Channel: mapping.Event, ID: "x"}, make([]byte, 1000), bridge.Trace{}); err != nil {
			t.Fatal(err)
		}
	}
	store.Close()
	store.nc.Close()
	s.Shutdown()
	s.WaitForShutdown()
	for _, seq := range []int{2, 5, 6} {
		flipPayload(t, dir, seq, 10)
	}
	s = startPlain(t, server.RANDOM_PORT, dir, true)
	store = open()
	j.forgive("can't be read any more")
	for range 3 * badEnough { // nothing is taken yet: the first one can be read
		if err := store.Sift(ctx); err != nil {
			t.Fatal(err)
		}
	}
	q, _ := store.run(t, "pump", mapping.Events)
	for _, want := range []uint64{1, 3, 4, 7, 8, 9, 10} {
		d := next(t, q)
		if d.Sequence != want {
			t.Errorf("message %d, want %d", d.Sequence, want)
		}
		d.Settle()
	}
	if err := q.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is left", func() bool {
		if err := store.Sift(ctx); err != nil {
			t.Fatal(err)
		}
		queued, err := store.Queued(ctx)
		return err == nil && queued["pump"] == 0
	})
	if n := j.count("ERROR a stored message can't be read any more"); n != 3 {
		t.Errorf("%d damaged messages named, want 3", n)
	}
}

// flipPayload turns a byte over in the middle of the nth of so many messages of the same size.
func flipPayload(t *testing.T, dir string, n, of int) {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "FLEETS_UP_TELEMETRY", "msgs", "*.blk"))
	if err != nil || len(blocks) != 1 {
		t.Fatal(blocks, err)
	}
	content, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/of*(n-1)+len(content)/of/2] ^= 0xFF
	if err := os.WriteFile(blocks[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
}
