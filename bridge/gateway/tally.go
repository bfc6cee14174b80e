package gateway

import (
	"sync/atomic"
	"time"

	"fleetbridge/bridge"
)

// tally counts one Thing's messages beside the metrics, which know no Things: two atomic operations a message.
type tally struct {
	next   bridge.Observer
	counts [len(directions)][len(outcomes)]atomic.Uint64
	last   atomic.Int64 // when the bridge took the newest, in Unix nanoseconds; 0: none yet
}

// Outcome is bridge.Observer.
func (t *tally) Outcome(f bridge.Fate) {
	for i, o := range outcomes {
		if o == f.Outcome {
			t.counts[f.Direction][i].Add(1)
		}
	}
	t.last.Store(f.Taken.UnixNano())
	t.next.Outcome(f)
}

// Counts are messages of one direction by how they ended.
type Counts struct {
	Delivered uint64 `json:"delivered"`
	Duplicate uint64 `json:"duplicate"`
	Dead      uint64 `json:"dead"`
}

// Tally is what a Thing has passed on since it was started, or its settings changed.
type Tally struct {
	Up, Down Counts
	Last     time.Time // when the bridge took the newest; zero: none yet
}

func (t *tally) read() (out Tally) {
	for _, d := range directions {
		c := &out.Up
		if d == directions[1] {
			c = &out.Down
		}
		n := &t.counts[d]
		*c = Counts{n[0].Load(), n[1].Load(), n[2].Load()}
	}
	if at := t.last.Load(); at > 0 {
		out.Last = time.Unix(0, at).UTC()
	}
	return out
}
