package cluster

import (
	"testing"
	"time"
)

// TestSlowLog: a log that shows a beat only when the next one has been sent proves what it has, and what is free is
// claimed. The log takes a record if it names the sequence of the one before, as NATS does.
func TestSlowLog(t *testing.T) {
	const late = 5 // half beats
	b := New(Config{ID: "a", Incarnation: "run", Shards: 1, Beat: time.Second})
	now, seq, own, shard := Time(0), uint64(1), uint64(0), uint64(0)
	type shown struct {
		at Time
		e  Entry
	}
	var coming []shown
	started := false
	do := func(outs []any) {
		for _, out := range outs {
			switch out := out.(type) {
			case Write:
				e := Entry{Seq: seq + 1, Shard: out.Shard, Owner: out.Owner}
				newest := &shard
				if out.Member != nil {
					e, newest = Entry{Seq: seq + 1, ID: "a", Member: out.Member}, &own
				}
				if out.Expect != *newest {
					continue
				}
				seq, *newest = e.Seq, e.Seq
				coming = append(coming, shown{now + late*time.Second/2, e})
			case Start:
				started = true
			}
		}
	}
	do(b.Step(now, Told{}))
	for range 60 {
		now += time.Second / 2
		for len(coming) > 0 && coming[0].at <= now {
			e := coming[0].e
			coming = coming[1:]
			do(b.Step(now, Seen{Entry: e}))
		}
		if now%time.Second == 0 {
			do(b.Step(now, Tick{}))
		}
	}
	if !started {
		t.Errorf("nothing was claimed in %v; the newest proof is %v old", now, b.Proved(now))
	}
	if !b.Verified(0, now-10*time.Second) {
		t.Errorf("no ownership of the last ten beats is proved; the newest proof is %v old", b.Proved(now))
	}
}
