package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// Leases remembers which worker has which job execution of one Thing. The cloud hands an execution that
// is under way to everybody who asks; the lease keeps two workers from doing it twice.
type Leases struct {
	thing mapping.Thing
	state State
	mu    sync.Mutex // one change at a time
	taken uint64     // how many leases were taken
	// fresh has, by job, the numbers of the leases that were taken in this run and whose workers have not asked again.
	fresh map[string]uint64
	// live has the leases of this run, by job, each with its number, and order all of them, the oldest first.
	live  map[string]uint64
	order []taken
}

// taken is a lease that this run made, and may have ended since.
type taken struct {
	job    string
	number uint64
}

// maxLeases is how many leases of a run a Thing has at most. A cloud that invents jobs would fill the memory; workers have a
// few at a time.
const maxLeases = 1024

// Hold is what Take found out.
type Hold struct {
	Worker string // who has the execution; empty: nobody
	taken  uint64 // the lease's number, if this Take made it
}

// Lease is the record of a lease: who has which execution.
type Lease struct {
	Worker string `json:"worker"`
	// Execution distinguishes runs of one job on one Thing. It has 13 digits or more.
	Execution int64 `json:"executionNumber"`
}

// NewLeases reads and writes leases in the State.
func NewLeases(t mapping.Thing, b State) *Leases {
	return &Leases{thing: t, state: b, fresh: map[string]uint64{}, live: map[string]uint64{}}
}

func (l *Leases) key(job string) string {
	return mapping.Token(string(l.thing)) + "." + mapping.Token(job)
}

// Holder returns the lease of a job, if there is one. A record that can't be read is none: the next Take writes over it.
func (l *Leases) Holder(ctx context.Context, job string) (Lease, bool, error) {
	value, err := l.state.Get(ctx, l.key(job))
	if errors.Is(err, ErrNotFound) {
		return Lease{}, false, nil
	}
	if err != nil {
		return Lease{}, false, err
	}
	var lease Lease
	if json.Unmarshal(value, &lease) != nil || lease.Worker == "" {
		return Lease{}, false, nil
	}
	return lease, true, nil
}

// Take leases an execution to a worker, unless somebody has this very execution: then the lease stays as it
// is. A lease of another run of the job is over, also when the worker has no name and gets no lease.
func (l *Leases) Take(ctx context.Context, job string, want Lease) (Hold, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	have, held, err := l.Holder(ctx, job)
	if err != nil {
		return Hold{}, err
	}
	if held && have.Execution == want.Execution {
		if have.Worker == want.Worker {
			delete(l.fresh, job)
		}
		return Hold{Worker: have.Worker}, nil
	}
	if want.Worker == "" {
		if held {
			err = l.drop(ctx, job)
		}
		return Hold{}, err
	}
	value, err := json.Marshal(want)
	if err != nil {
		return Hold{}, err
	}
	if err := l.state.Put(ctx, l.key(job), value); err != nil {
		return Hold{}, err
	}
	l.taken++
	l.fresh[job], l.live[job] = l.taken, l.taken
	l.order = append(l.order, taken{job, l.taken})
	l.trim(ctx)
	return Hold{Worker: want.Worker, taken: l.taken}, nil
}

// trim ends the oldest leases of this run when there are too many. What fails is tried again with the next lease. The
// caller holds the lock.
func (l *Leases) trim(ctx context.Context) {
	for len(l.live) > maxLeases {
		oldest := l.order[0]
		if l.live[oldest.job] == oldest.number && l.drop(ctx, oldest.job) != nil {
			return
		}
		l.order = l.order[1:]
	}
	if len(l.order) > 2*maxLeases { // most have ended
		l.order = slices.DeleteFunc(l.order, func(t taken) bool { return l.live[t.job] != t.number })
	}
}

// GiveBack ends the lease that a Take made and nobody heard of, unless its worker has asked again since.
func (l *Leases) GiveBack(ctx context.Context, job string, h Hold) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.taken == 0 || l.fresh[job] != h.taken {
		return nil
	}
	return l.drop(ctx, job)
}

// Release ends the lease of a job, if there is one.
func (l *Leases) Release(ctx context.Context, job string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, held, err := l.Holder(ctx, job)
	if err != nil || !held {
		return err
	}
	return l.drop(ctx, job)
}

// drop removes a lease. The caller holds the lock.
func (l *Leases) drop(ctx context.Context, job string) error {
	if err := l.state.Delete(ctx, l.key(job)); err != nil {
		return err
	}
	delete(l.fresh, job)
	delete(l.live, job)
	return nil
}

// finalStatus reports whether a worker is done with an execution after this status (protocol page: "Report
// Job Status").
func finalStatus(status string) bool {
	return status == "SUCCEEDED" || status == "FAILED" || status == "REJECTED"
}

// execution finds what start-next returned; job is empty when nothing is pending.
func execution(answer []byte) (job string, number int64) {
	e := gjson.GetBytes(answer, "execution")
	return e.Get("jobId").String(), e.Get("executionNumber").Int()
}
