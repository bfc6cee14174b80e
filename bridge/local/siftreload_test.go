package local

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"fleetbridge/mapping"
)

// TestUnreadableByTheNextQueue: a Thing that a reload changes, or takes away and brings back, misses what it missed.
func TestUnreadableByTheNextQueue(t *testing.T) {
	for name, away := range map[string]bool{"changed": false, "removed": true} {
		for _, taken := range []uint64{2, 5} {
			t.Run(name+" after "+strconv.Itoa(int(taken)), func(t *testing.T) {
				r := damagedRig(t, []mapping.Thing{"pump"}, 10, 3, 10)
				nc := r.program()
				q, stop := r.run("pump", mapping.Telemetry)
				for d := next(t, q); ; d = next(t, q) {
					d.Settle()
					if d.Sequence == taken {
						break
					}
				}
				stop()
				if err := q.Flush(testContext(t)); err != nil {
					t.Fatal(err)
				}
				r.publish(nc, "fleets.up.pump.events.x", "1")
				if away {
					if err := q.Remove(testContext(t)); err != nil {
						t.Fatal(err)
					}
				}
				r.publish(nc, "fleets.up.pump.events.x", "2")
				q, _ = r.run("pump", mapping.Telemetry)
				for d := next(t, q); ; d = next(t, q) {
					d.Settle()
					if string(d.Payload) == "2" {
						break
					}
				}
				nothingLeft(t, r, "pump")
				if said := r.journal.missed(); !slices.Equal(said, []string{"2"}) {
					t.Errorf("%q", said)
				}
			})
		}
	}
}

// TestUnreadableAndARestart: what lies behind a damaged record in its file outlives starts of the bridge, whenever those
// come. The server cuts the file off there when a purge has gone past the record.
func TestUnreadableAndARestart(t *testing.T) {
	for _, bad := range []int{1, 3, 10} {
		for _, taken := range []int{4, 9} { // of the ten, before the first restart; 9: all that can be read
			for _, clean := range []bool{true, false} {
				t.Run(fmt.Sprintf("bad %d taken %d clean %v", bad, taken, clean), func(t *testing.T) {
					t.Parallel()
					outlives(t, bad, taken, clean)
				})
			}
		}
	}
}

func outlives(t *testing.T, bad, taken int, clean bool) {
	r := damagedRig(t, []mapping.Thing{"pump"}, 10, bad)
	came := map[uint64]bool{}
	take := func(q *Queue, n int) {
		t.Helper()
		for range n {
			d := next(t, q)
			came[d.Sequence] = true
			d.Settle()
		}
	}
	q, stop := r.run("pump", mapping.Telemetry)
	take(q, taken)
	if taken == 9 { // and newer ones, which wait
		eventually(t, "it has caught up", func() bool {
			if err := r.store.Sift(testContext(t)); err != nil {
				t.Fatal(err)
			}
			return q.isDirect()
		})
	}
	nc := r.program()
	for range 5 {
		r.publish(nc, "fleets.up.pump.events.x", "1")
	}
	if err := q.forgetter.purge(testContext(t)); err != nil {
		t.Fatal(err)
	}
	stop()
	if clean {
		if err := q.Flush(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	r.stop()
	r.start(ServerConfig{SyncAlways: true}, StoreConfig{Things: []mapping.Thing{"pump"}, Window: 1})
	q, _ = r.run("pump", mapping.Telemetry)
	r.publish(r.program(), "fleets.up.pump.events.x", "last")
	for d := next(t, q); ; d = next(t, q) {
		came[d.Sequence] = true
		d.Settle()
		if string(d.Payload) == "last" {
			break
		}
	}
	for seq := uint64(1); seq <= 16; seq++ {
		if came[seq] == (seq == uint64(bad)) {
			t.Errorf("message %d: came %v", seq, came[seq])
		}
	}
	nothingLeft(t, r, "pump")
}
