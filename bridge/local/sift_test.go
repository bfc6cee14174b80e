package local

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// damagedRig is started anew on a store that holds so many messages, by turns of these Things; some are damaged.
func damagedRig(t *testing.T, things []mapping.Thing, n int, bad ...int) *rig {
	t.Helper()
	r := newRigWith(t, ServerConfig{SyncAlways: true}, StoreConfig{Things: things})
	for i := range n {
		a := mapping.Address{Thing: things[i%len(things)], Channel: mapping.Event, ID: "x"}
		if _, err := r.store.Enqueue(testContext(t), a, make([]byte, 1000), bridge.Trace{}); err != nil {
			t.Fatal(err)
		}
	}
	r.stop()
	for _, seq := range bad {
		flipPayload(t, r.dir, seq, n)
	}
	r.start(ServerConfig{SyncAlways: true}, StoreConfig{Things: things, Window: 1})
	r.journal.forgive("can't be read any more")
	return r
}

var missing = regexp.MustCompile(`^ERROR stored messages can't be read any more.* stream=FLEETS_UP_TELEMETRY messages=(\d+)$`)

// missed is of how many messages it was said that they can't be read, each time.
func (j *journal) missed() (said []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range j.lines {
		if m := missing.FindStringSubmatch(line); m != nil {
			said = append(said, m[1])
		}
	}
	return said
}

// Flipped bits under a whole index: everything that can be read comes, also when there is more to store meanwhile, the
// others are counted once, and nothing waits for them any more.
func TestUnreadableMessages(t *testing.T) {
	for name, bad := range map[string][]int{
		"none": {}, "the first": {1}, "between": {2, 5, 6}, "the last": {9, 10}, "ends": {1, 2, 10}, "all": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
	} {
		t.Run(name, func(t *testing.T) { unreadable(t, bad, false) })
		t.Run(name+", and more is stored", func(t *testing.T) { unreadable(t, bad, true) })
	}
}

func unreadable(t *testing.T, bad []int, more bool) {
	const n = 10
	r := damagedRig(t, []mapping.Thing{"pump"}, n, bad...)
	nc := r.program()
	q, _ := r.run("pump", mapping.Telemetry)
	last := n
	for seq := 1; seq <= last; seq++ {
		if slices.Contains(bad, seq) {
			continue
		}
		d := next(t, q)
		if d.Sequence != uint64(seq) {
			t.Fatalf("message %d, want %d", d.Sequence, seq)
		}
		d.Settle()
		if more && seq < n {
			if err := q.forgetter.purge(testContext(t)); err != nil { // whatever it leaves as the stream's first can be read
				t.Fatal(err)
			}
			r.publish(nc, "fleets.up.pump.events.x", "1")
			last++
		}
	}
	nothingLeft(t, r, "pump")
	r.publish(nc, "fleets.up.pump.events.x", "later")
	expect(t, q, "later")
	nothingLeft(t, r, "pump")
	var want []string
	if len(bad) > 0 {
		want = []string{strconv.Itoa(len(bad))}
	}
	if said := r.journal.missed(); !slices.Equal(said, want) {
		t.Errorf("%q, want %q", said, want)
	}
}

// nothingLeft waits until the streams are empty and the queues need no consumer.
func nothingLeft(t *testing.T, r *rig, things ...mapping.Thing) {
	t.Helper()
	eventually(t, "nothing is left", func() bool {
		if err := r.store.Sift(testContext(t)); err != nil {
			t.Fatal(err)
		}
		for _, thing := range things {
			if queuedOf(t, r, thing) > 0 {
				return false
			}
		}
		for _, q := range r.store.handovers[mapping.Telemetry].all() {
			if !q.isDirect() {
				return false
			}
		}
		return true
	})
}

// TestUnreadableAmongOthers: a Thing's damaged messages are its own loss.
func TestUnreadableAmongOthers(t *testing.T) {
	r := damagedRig(t, []mapping.Thing{"pump", "lamp"}, 10, 3, 6)
	take := func(q *Queue, want ...uint64) {
		t.Helper()
		for _, seq := range want {
			d := next(t, q)
			if d.Sequence != seq {
				t.Errorf("message %d, want %d", d.Sequence, seq)
			}
			d.Settle()
		}
	}
	pump, _ := r.run("pump", mapping.Telemetry)
	take(pump, 1, 5, 7, 9)
	r.publish(r.program(), "fleets.up.pump.events.x", "1")
	take(pump, 11)
	lamp, _ := r.run("lamp", mapping.Telemetry)
	take(lamp, 2, 4, 8, 10)
	nothingLeft(t, r, "pump", "lamp")
	if said := r.journal.missed(); !slices.Equal(said, []string{"1", "1"}) {
		t.Errorf("%q", said)
	}
}

// TestNothingUnreadable: what is settled and told again, stored while nobody has a queue, purged for all, or handed over
// is not missed.
func TestNothingUnreadable(t *testing.T) {
	r := newRigWith(t, ServerConfig{}, StoreConfig{Things: []mapping.Thing{"pump", "lamp"}, Window: pullBatch})
	nc := r.program()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(3*handoverMessages))
	if err != nil {
		t.Fatal(err)
	}
	publish := func(subject string, n int) {
		t.Helper()
		for range n {
			if _, err := js.PublishAsync(subject, []byte("1")); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-js.PublishAsyncComplete():
		case <-testContext(t).Done():
			t.Fatal("not published")
		}
	}
	take := func(q *Queue, n int) {
		t.Helper()
		for range n {
			next(t, q).Settle()
		}
	}
	publish("fleets.up.pump.events.x", 200)
	pump, stop := r.run("pump", mapping.Telemetry)
	publish("fleets.up.pump.events.x", 100)
	take(pump, 250)
	stop()
	if err := pump.Remove(testContext(t)); err != nil { // with a purge under way
		t.Fatal(err)
	}
	publish("fleets.up.pump.events.x", 100)
	publish("fleets.up.lamp.events.x", 100)
	pump, _ = r.run("pump", mapping.Telemetry)
	lamp, _ := r.run("lamp", mapping.Telemetry)
	take(lamp, 100)
	eventually(t, "they have caught up", func() bool {
		if d, ok := soon(pump, time.Millisecond); ok { // some come once more
			d.Settle()
		}
		return pump.isDirect() && lamp.isDirect() && queuedOf(t, r, "pump") == 0
	})
	publish("fleets.up.pump.events.x", handoverMessages+100) // it falls behind
	past(t, r, "fleets.up.pump.events.x", "1")
	publish("fleets.up.pump.events.x", 10)
	take(pump, handoverMessages+111)
	nothingLeft(t, r, "pump", "lamp")
	if said := r.journal.missed(); len(said) > 0 {
		t.Errorf("%q", said)
	}
}

// TestUnreadableMessagesElsewhere: so it is where the stream takes what is published itself.
func TestUnreadableMessagesElsewhere(t *testing.T) {
	ctx := testContext(t)
	r := damagedRig(t, []mapping.Thing{"pump"}, 10, 2, 5, 6)
	r.store.Close()
	r.store = r.open(r.nc, StoreConfig{Things: []mapping.Thing{"pump"}})
	for range 3 * badEnough { // nothing is taken yet: the first one can be read
		if err := r.store.Sift(ctx); err != nil {
			t.Fatal(err)
		}
	}
	q, _ := r.run("pump", mapping.Telemetry)
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
	for n := uint64(1); n > 0; n = queuedOf(t, r, "pump") {
		if err := r.store.Sift(ctx); err != nil {
			t.Fatal(err)
		}
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
