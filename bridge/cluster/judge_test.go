package cluster

import "fmt"

// judge sees everything from outside, and knows the promises.
type judge struct {
	verdict string // the first that is broken

	epochs   map[int]uint64
	first    map[int]int // newest first arrival, by shard
	arrived  map[int]map[int]int
	kicked   map[*owner]uint64 // by which epoch
	response map[string]string
	called   map[string]int
	lastStop Time
	again    int // messages that arrived again
}

func newJudge() judge {
	return judge{epochs: map[int]uint64{}, first: map[int]int{}, arrived: map[int]map[int]int{}, kicked: map[*owner]uint64{},
		response: map[string]string{}, called: map[string]int{}}
}

func (j *judge) broken(format string, args ...any) {
	if j.verdict == "" {
		j.verdict = fmt.Sprintf(format, args...)
	}
}

// I1: who was taken over by a newer owner does not connect again.
func (j *judge) connects(_ *sim, o *owner) {
	if by := j.kicked[o]; by > o.epoch {
		j.broken("I1: %s connects for shard %d with epoch %d after epoch %d has taken the session", o.n.id, o.p, o.epoch, by)
	}
}

func (j *judge) kicks(by, was *owner) { j.kicked[was] = max(j.kicked[was], by.epoch) }

// I2: first arrivals are in order.
func (j *judge) arrives(p, k int) {
	if j.arrived[p] == nil {
		j.arrived[p] = map[int]int{}
	}
	if j.arrived[p][k]++; j.arrived[p][k] > 1 {
		j.again++
	} else if k < j.first[p] {
		j.broken("I2: message %d of shard %d arrives for the first time behind %d", k, p, j.first[p])
	}
	j.first[p] = max(j.first[p], k)
}

// I3, a part: what an older owner writes is not stored behind what a newer one has written.
func (j *judge) writes(p int, epoch uint64) {
	if epoch < j.epochs[p] {
		j.broken("I3: a write of epoch %d is stored in shard %d behind one of epoch %d", epoch, p, j.epochs[p])
	}
	j.epochs[p] = max(j.epochs[p], epoch)
}

// I4: an execution has one response.
func (j *judge) responds(id, response string) {
	if was := j.response[id]; was != "" && was != response {
		j.broken("I4: execution %s has two responses: %s, %s", id, was, response)
	}
	j.response[id] = response
}

// I5: a handler is called once.
func (j *judge) calls(id string) {
	if j.called[id]++; j.called[id] > 1 {
		j.broken("I5: execution %s was called twice", id)
	}
}

// I6, a part: nothing is taken from a bridge that has been well for long, whatever others suffer from.
func (j *judge) taken(well Time, from, by string) {
	if well > 12*beat {
		j.broken("I6: %s takes a shard from %s, which has been well for %v", by, from, well)
	}
}

func (j *judge) stops(at Time) { j.lastStop = at }

// ends is asked when all faults are long over.
func (j *judge) ends(s *sim) {
	for p, at := range s.shards {
		owner := (*owner)(nil)
		for _, n := range s.nodes {
			if o := n.owners[p]; n.up && o != nil && o.connected {
				owner = o
			}
		}
		if owner == nil {
			j.broken("I6: nobody has connected for shard %d", p)
			continue
		}
		for k := 1; k <= at.next; k++ {
			if j.arrived[p][k] == 0 {
				j.broken("I3: message %d of shard %d is lost", k, p)
			}
			if at.state.merged[k/64]&(1<<(k%64)) == 0 {
				j.broken("I3: report %d of shard %d is missing in the merged state", k, p)
			}
		}
		if at.floor != at.next {
			j.broken("I6: shard %d has settled %d of %d", p, at.floor, at.next)
		}
		for id := range at.done {
			if j.response[id] == "" {
				j.broken("I4: execution %s has no response", id)
			}
		}
		if len(at.requests) > 0 {
			j.broken("I3: requests %v were not taken", at.requests)
		}
	}
	if s.planned && j.again > 0 {
		j.broken("%d messages came again though every move was planned", j.again)
	}
}
