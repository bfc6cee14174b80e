//go:build soakroot

package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"fleetbridge/bridge/journal"
)

// TestJournalPowerCut cuts the power under a journal on a disk that keeps no directory entry unless the directory was
// synced. What was accepted is there afterwards, in order, byte for byte.
func TestJournalPowerCut(t *testing.T) {
	w := &World{T: t, Random: rand.New(rand.NewPCG(1, 1)), ctx: t.Context()}
	disk := mountPowerDisk(w, "-entries=strict", "-sync-delay=1ms")
	j := journalOn(t, disk)
	accepted := make([][]uint64, 8)
	for round, keep := range []float64{0, 0.3, 0.8, 1} {
		var wait sync.WaitGroup
		for n := range accepted {
			wait.Go(func() {
				for {
					var g journal.Group
					g.Message(lane(n), journalBody(n, len(accepted[n])))
					r, err := j.Append(context.Background(), &g)
					if err != nil {
						return
					}
					accepted[n] = append(accepted[n], r.First)
				}
			})
		}
		w.Pause(w.Between(100e6, 300e6))
		disk.say("freeze")
		disk.expect("frozen")
		disk.say("cut %g %d", keep, round)
		_ = j.Close() // it ends when the disk answers
		wait.Wait()
		disk.expect("mounted")
		j = journalOn(t, disk)
		for n := range accepted {
			accepted[n] = judgeLane(t, j, n, accepted[n])
		}
	}
	t.Logf("%v; disk: %s", j.Size(), disk.stats())
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

func lane(n int) string { return fmt.Sprintf("lane-%d", n) }

func journalBody(lane, n int) []byte {
	return fmt.Appendf(nil, "%d.%d.%0*d", lane, n, 1+n%700, n)
}

func journalOn(t *testing.T, disk *powerDisk) *journal.Journal {
	t.Helper()
	j, err := journal.Open(context.Background(), filepath.Join(disk.path, "journal"), journal.Options{SegmentSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range j.Damage() {
		if !d.Unconfirmed {
			t.Error(d.Error())
		}
	}
	return j
}

// judgeLane returns what is there: all that was accepted, and perhaps one more, which was on its way. Half of it is settled.
func judgeLane(t *testing.T, j *journal.Journal, n int, accepted []uint64) []uint64 {
	t.Helper()
	there := map[uint64]bool{}
	first, messages := len(accepted), j.Read(lane(n), 0, 1<<40)
	for i, m := range messages {
		there[m.Number] = true
		if i == 0 {
			for first = range accepted {
				if accepted[first] == m.Number {
					break
				}
			}
		}
		switch at := first + i; {
		case m.Err != nil:
			t.Errorf("%s: %v", lane(n), m.Err)
		case string(m.Body) != string(journalBody(n, at)):
			t.Errorf("%s: message %d is %.20q", lane(n), at, m.Body)
		case at == len(accepted):
			accepted = append(accepted, m.Number)
		case at > len(accepted) || m.Number != accepted[at]:
			t.Errorf("%s: message %d has number %d", lane(n), at, m.Number)
		}
	}
	for _, number := range accepted[min(first, len(accepted)):] {
		if !there[number] {
			t.Errorf("%s: %d is missing", lane(n), number)
		}
	}
	if len(messages) > 1 {
		settled := messages[len(messages)/2]
		j.Settle(lane(n), settled.Number)
	}
	return accepted
}
