package fleetsim

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// Job is one document for several Things.
type Job struct {
	ID          string          `json:"id"` // empty at CreateJob: a UUID
	Description string          `json:"description,omitempty"`
	Things      []string        `json:"thingNames"`
	Document    json.RawMessage `json:"document"`
	CreatedAt   time.Time       `json:"createdAt"`
}

type job struct {
	Job
	executions []*JobExecution // in the order of Things
}

// States of a job execution, besides those that it shares with commands.
const (
	Queued     = "QUEUED"
	InProgress = "IN_PROGRESS"
)

// JobExecution is one Thing's part in a job. Times are Unix milliseconds.
type JobExecution struct {
	JobID           string          `json:"jobId"`
	Thing           string          `json:"thingName"`
	Document        json.RawMessage `json:"jobDocument,omitempty"`
	Status          string          `json:"status"`
	StatusDetails   json.RawMessage `json:"statusDetails,omitempty"`
	QueuedAt        int64           `json:"queuedAt"`
	StartedAt       int64           `json:"startedAt,omitempty"`
	LastUpdatedAt   int64           `json:"lastUpdatedAt"`
	VersionNumber   int64           `json:"versionNumber"`
	ExecutionNumber int64           `json:"executionNumber"` // 19 digits: more than a float holds

	stepTimeout *time.Timer
}

// Final reports whether the status can change no more.
func (e JobExecution) Final() bool { return e.Status != Queued && e.Status != InProgress }

// ExecutionState is the part of an execution that answers to updates show.
type ExecutionState struct {
	Status        string          `json:"status"`
	StatusDetails json.RawMessage `json:"statusDetails,omitempty"`
	VersionNumber int64           `json:"versionNumber"`
}

func (e *JobExecution) state() *ExecutionState {
	return &ExecutionState{e.Status, e.StatusDetails, e.VersionNumber}
}

// CreateJob queues an execution for every Thing, tells them with notify, and those of which it is
// the first with notify-next.
func (s *Sim) CreateJob(j Job) (Job, error) {
	if j.ID == "" {
		j.ID = newUUID()
	}
	switch err := mapping.CheckID(j.ID); {
	case err != nil:
		return Job{}, invalid("job id: %v", err)
	case len(j.Things) == 0:
		return Job{}, invalid("targets.thingNames is empty")
	case !gjson.ValidBytes(j.Document):
		return Job{}, invalid("document is missing or not JSON")
	}
	s.Lock()
	defer s.Unlock()
	if _, used := s.jobs[j.ID]; used {
		return Job{}, conflict("job %s exists already", j.ID)
	}
	var targets []*thing
	for _, name := range j.Things {
		t, err := s.thing(name)
		if err != nil {
			return Job{}, err
		}
		if slices.Contains(targets, t) {
			return Job{}, invalid("targets.thingNames names %s twice", name)
		}
		targets = append(targets, t)
	}
	now := time.Now()
	j.CreatedAt = now.UTC()
	kept := &job{Job: j}
	s.jobs[j.ID] = kept
	s.log.Info("job", "job", j.ID, "things", len(targets))
	for _, t := range targets {
		s.numbers = max(s.numbers+1, now.UnixNano())
		e := &JobExecution{JobID: j.ID, Thing: t.Name, Document: j.Document, Status: Queued, QueuedAt: now.UnixMilli(), LastUpdatedAt: now.UnixMilli(), VersionNumber: 1, ExecutionNumber: s.numbers}
		kept.executions = append(kept.executions, e)
		s.changePending(t, func() { t.pending = append(t.pending, e) })
	}
	s.notify()
	return j, nil
}

// changePending runs a change to a Thing's pending executions and tells the Thing what became of
// the list.
func (s *Sim) changePending(t *thing, change func()) {
	before := next(t)
	change()
	t.pending = slices.DeleteFunc(t.pending, func(e *JobExecution) bool { return e.Final() })
	s.pushNotify(t)
	if after := next(t); after != before {
		s.pushNext(t, after)
	}
}

// next is the execution that start-next gives: one in progress before the queued ones, each in the
// order of queueing.
func next(t *thing) *JobExecution {
	for _, status := range []string{InProgress, Queued} {
		for _, e := range t.pending {
			if e.Status == status {
				return e
			}
		}
	}
	return nil
}

// summary is an execution in a list.
type summary struct {
	JobID           string `json:"jobId"`
	QueuedAt        int64  `json:"queuedAt"`
	StartedAt       int64  `json:"startedAt,omitempty"`
	LastUpdatedAt   int64  `json:"lastUpdatedAt"`
	VersionNumber   int64  `json:"versionNumber"`
	ExecutionNumber int64  `json:"executionNumber"`
}

func summaries(t *thing, status string) []summary {
	out := []summary{}
	for _, e := range t.pending {
		if e.Status == status {
			out = append(out, summary{e.JobID, e.QueuedAt, e.StartedAt, e.LastUpdatedAt, e.VersionNumber, e.ExecutionNumber})
		}
	}
	return out
}

func (s *Sim) pushNotify(t *thing) {
	jobs := map[string][]summary{}
	for _, status := range []string{InProgress, Queued} {
		if list := summaries(t, status); len(list) > 0 {
			jobs[status] = list
		}
	}
	s.down(t, mapping.JobsNotify, "", struct {
		Jobs      map[string][]summary `json:"jobs"`
		Timestamp int64                `json:"timestamp"`
	}{jobs, time.Now().UnixMilli()})
}

func (s *Sim) pushNext(t *thing, e *JobExecution) {
	s.down(t, mapping.JobsNotifyNext, "", jobAnswer{Execution: e, Timestamp: time.Now().UnixMilli()})
}

// advance changes an execution's status. details nil keeps what is there. The lock must be held.
func (s *Sim) advance(t *thing, e *JobExecution, status string, details json.RawMessage) {
	change := func() {
		now := time.Now().UnixMilli()
		if status == InProgress && e.StartedAt == 0 {
			e.StartedAt = now
		}
		e.Status, e.LastUpdatedAt = status, now
		if details != nil {
			e.StatusDetails = details
		}
		if e.Final() {
			s.forget(e.stepTimeout)
		}
		s.log.Info("job execution", "thing", t.Name, "job", e.JobID, "status", status, "version", e.VersionNumber)
	}
	if e.Status == status {
		change()
	} else {
		s.changePending(t, change)
	}
	s.notify()
}

// limitStep sets or replaces an execution's step timeout. The lock must be held.
func (s *Sim) limitStep(t *thing, e *JobExecution, minutes int64) {
	s.forget(e.stepTimeout)
	e.stepTimeout = s.after(time.Duration(minutes)*s.options.Minute, func() {
		e.VersionNumber++
		s.advance(t, e, TimedOut, nil)
	})
}

// CancelJob cancels the executions that are queued; with force those in progress too.
func (s *Sim) CancelJob(id string, force bool) error {
	s.Lock()
	defer s.Unlock()
	j, ok := s.jobs[id]
	if !ok {
		return notFound("job %s does not exist", id)
	}
	for _, e := range j.executions {
		if e.Status == Queued || force && e.Status == InProgress {
			e.VersionNumber++
			s.advance(s.things[e.Thing], e, Canceled, nil)
		}
	}
	return nil
}

func (s *Sim) execution(jobID, name string) (*JobExecution, bool) {
	if j, ok := s.jobs[jobID]; ok {
		for _, e := range j.executions {
			if e.Thing == name {
				return e, true
			}
		}
	}
	return nil, false
}

// Executions lists a job's executions by Thing name.
func (s *Sim) Executions(jobID string) ([]JobExecution, error) {
	s.Lock()
	defer s.Unlock()
	j, ok := s.jobs[jobID]
	if !ok {
		return nil, notFound("job %s does not exist", jobID)
	}
	out := []JobExecution{}
	for _, e := range j.executions {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b JobExecution) int { return cmp.Compare(a.Thing, b.Thing) })
	return out, nil
}

// WaitExecution returns a Thing's execution once it has the status.
func (s *Sim) WaitExecution(ctx context.Context, jobID, name, status string) (JobExecution, error) {
	return await(ctx, &s.monitor, "job "+jobID+" of "+name+" to be "+status, func() (JobExecution, bool) {
		e, ok := s.execution(jobID, name)
		if !ok || e.Status != status {
			return JobExecution{}, false
		}
		return *e, true
	})
}
