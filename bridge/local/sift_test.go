package local

import (
	"os"
	"path/filepath"
	"testing"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// Flipped bits under a whole index: the messages are named, and nothing waits for them any more.
func TestUnreadableMessages(t *testing.T) {
	ctx := testContext(t)
	r := newRigWith(t, ServerConfig{SyncAlways: true}, StoreConfig{})
	for range 10 {
		if _, err := r.store.Enqueue(ctx, mapping.Address{Thing: "pump", Channel: mapping.Event, ID: "x"}, make([]byte, 1000), bridge.Trace{}); err != nil {
			t.Fatal(err)
		}
	}
	r.stop()
	for _, n := range []int{2, 5, 6} {
		flipPayload(t, r.dir, n, 10)
	}
	r.start(ServerConfig{SyncAlways: true}, StoreConfig{})
	for range 3 * badEnough { // nothing is taken yet: the first one can be read
		if err := r.store.Sift(ctx); err != nil {
			t.Fatal(err)
		}
	}
	q, err := r.store.Queue(ctx, "pump", mapping.Telemetry)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = q.Run(ctx) }()
	for _, want := range []uint64{1, 3, 4, 7, 8, 9, 10, 11, 12} {
		if want > 10 { // what comes meanwhile changes nothing
			r.publish(r.program(), "fleets.up.pump.events.x", "1")
		}
		d := next(t, q)
		if d.Sequence != want {
			t.Errorf("message %d, want %d", d.Sequence, want)
		}
		d.Settle()
	}
	eventually(t, "the queue believes that it has caught up", q.isDirect)
	if err := q.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if n := r.journal.count("ERROR"); n > 0 {
		t.Errorf("%d errors before anything was found", n)
	}
	r.journal.forgive("can't be read any more")
	for n := uint64(1); n > 0; {
		if err := r.store.Sift(ctx); err != nil {
			t.Fatal(err)
		}
		queued, err := r.store.Queued(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n = queued["pump"]
	}
	if n := r.journal.count("ERROR a stored message can't be read any more"); n != 3 {
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
