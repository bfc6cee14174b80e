package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// Leases remembers which worker has which job execution of one Thing. The cloud hands an execution that
// is under way to everybody who asks; the lease keeps two workers from doing it twice.
type Leases struct {
	thing  mapping.Thing
	bucket Bucket
	mu     sync.Mutex // one change at a time
}

// Lease is the value in the bucket FLEETS_LEASES.
type Lease struct {
	Worker string `json:"worker"`
	// Execution distinguishes runs of one job on one Thing. It has 13 digits or more.
	Execution int64 `json:"executionNumber"`
}

// NewLeases reads and writes leases in the bucket.
func NewLeases(t mapping.Thing, b Bucket) *Leases { return &Leases{thing: t, bucket: b} }

func (l *Leases) key(job string) string {
	return mapping.Token(string(l.thing)) + "." + mapping.Token(job)
}

// Holder returns the lease of a job, if there is one.
func (l *Leases) Holder(ctx context.Context, job string) (Lease, bool, error) {
	value, err := l.bucket.Get(ctx, l.key(job))
	if errors.Is(err, ErrNotFound) {
		return Lease{}, false, nil
	}
	if err != nil {
		return Lease{}, false, err
	}
	var lease Lease
	if err := json.Unmarshal(value, &lease); err != nil {
		return Lease{}, false, fmt.Errorf("lease of job %s is damaged, delete its key to free it: %w", job, err)
	}
	return lease, true, nil
}

// Take leases an execution to a worker, unless another worker has this very execution: then it returns
// false and that worker's name. A lease of an earlier execution of the job is replaced.
func (l *Leases) Take(ctx context.Context, job string, want Lease) (ok bool, holder string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	have, held, err := l.Holder(ctx, job)
	if err != nil {
		return false, "", err
	}
	if held && have.Execution == want.Execution {
		return have.Worker == want.Worker, have.Worker, nil
	}
	if want.Worker == "" {
		return true, "", nil
	}
	value, err := json.Marshal(want)
	if err != nil {
		return false, "", err
	}
	return true, want.Worker, l.bucket.Put(ctx, l.key(job), value)
}

// Release ends the lease of a job, if there is one.
func (l *Leases) Release(ctx context.Context, job string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, held, err := l.Holder(ctx, job)
	if err != nil || !held {
		return err
	}
	return l.bucket.Delete(ctx, l.key(job))
}

// finalStatus tells the statuses after which a worker is done with an execution (protocol page: "Report
// Job Status").
func finalStatus(status string) bool {
	return status == "SUCCEEDED" || status == "FAILED" || status == "REJECTED"
}

// execution finds what start-next returned; job is empty when nothing is pending.
func execution(answer []byte) (job string, number int64) {
	e := gjson.GetBytes(answer, "execution")
	return e.Get("jobId").String(), e.Get("executionNumber").Int()
}
