package fleetsim

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// jobAnswer is an accepted payload.
type jobAnswer struct {
	Execution      *JobExecution   `json:"execution,omitempty"`
	InProgressJobs *[]summary      `json:"inProgressJobs,omitempty"`
	QueuedJobs     *[]summary      `json:"queuedJobs,omitempty"`
	ExecutionState *ExecutionState `json:"executionState,omitempty"`
	Document       json.RawMessage `json:"jobDocument,omitempty"`
	ClientToken    json.RawMessage `json:"clientToken,omitempty"`
	Timestamp      int64           `json:"timestamp"`
}

// jobRejection is a rejected payload.
type jobRejection struct {
	Code           string          `json:"code"`
	Message        string          `json:"message"`
	ExecutionState *ExecutionState `json:"executionState,omitempty"`
	ClientToken    json.RawMessage `json:"clientToken,omitempty"`
	Timestamp      int64           `json:"timestamp"`
}

// ask carries out a jobs question. refusal is nil or why not; token is to be echoed either way. The
// lock must be held.
func (s *Sim) ask(a mapping.Address, payload []byte) (answer jobAnswer, token json.RawMessage, refusal *Refusal) {
	doc, err := parseObject(payload)
	if err != nil {
		return answer, nil, &Refusal{Status: http.StatusBadRequest, Code: "InvalidJson", Message: "payload " + err.Error()}
	}
	name := string(a.Thing)
	switch v := member(doc, "clientToken"); {
	case v.Type == gjson.String:
		token = raw(v)
	case v.Exists():
		return answer, nil, invalid("clientToken %s is no string", v.Raw)
	}
	if v := member(doc, "thingName"); v.Exists() && v.String() != name {
		return answer, token, invalid("thingName %q is not the topic's %q", v.String(), name)
	}
	t, err := s.thing(name)
	if err != nil {
		return answer, token, err.(*Refusal)
	}
	if s.chaos.rejects() {
		return answer, token, &Refusal{Status: http.StatusTooManyRequests, Code: "RequestThrottled", Message: "misbehaviour: try again"}
	}
	switch a.Channel {
	case mapping.JobsGet:
		running, queued := summaries(t, InProgress), summaries(t, Queued)
		answer = jobAnswer{InProgressJobs: &running, QueuedJobs: &queued}
	case mapping.JobsStartNext:
		answer, refusal = s.startNext(t, doc)
	case mapping.JobGet:
		answer, refusal = s.describe(t, a.ID, doc)
	case mapping.JobUpdate:
		answer, refusal = s.update(t, a.ID, doc)
	}
	answer.ClientToken, answer.Timestamp = token, time.Now().UnixMilli()
	return answer, token, refusal
}

func (s *Sim) startNext(t *thing, doc gjson.Result) (jobAnswer, *Refusal) {
	details, refusal := statusDetails(doc)
	if refusal != nil {
		return jobAnswer{}, refusal
	}
	minutes, refusal := stepTimeout(doc)
	if refusal != nil {
		return jobAnswer{}, refusal
	}
	e := next(t)
	if e == nil {
		return jobAnswer{}, nil
	}
	if e.Status == Queued {
		if s.options.StartBumps {
			e.VersionNumber++
		}
		if minutes > 0 {
			s.limitStep(t, e, minutes)
		}
		s.advance(t, e, InProgress, details)
	}
	out := *e
	return jobAnswer{Execution: &out}, nil
}

func (s *Sim) describe(t *thing, jobID string, doc gjson.Result) (jobAnswer, *Refusal) {
	e, ok := s.execution(jobID, t.Name)
	if !ok {
		return jobAnswer{}, notFound("job %s has no execution for thing %s", jobID, t.Name)
	}
	if v := member(doc, "executionNumber"); v.Exists() {
		if n, isInt := integer(v); !isInt || n != e.ExecutionNumber {
			return jobAnswer{}, notFound("job %s has no execution number %s for thing %s", jobID, v.Raw, t.Name)
		}
	}
	if e.Final() {
		return jobAnswer{}, ended(e)
	}
	out := *e
	if member(doc, "includeJobDocument").Type == gjson.False {
		out.Document = nil
	}
	return jobAnswer{Execution: &out}, nil
}

func (s *Sim) update(t *thing, jobID string, doc gjson.Result) (jobAnswer, *Refusal) {
	status := member(doc, "status").String()
	if !slices.Contains([]string{InProgress, Succeeded, Failed, Rejected}, status) {
		return jobAnswer{}, invalid("status %q is not IN_PROGRESS, SUCCEEDED, FAILED or REJECTED", status)
	}
	details, refusal := statusDetails(doc)
	if refusal != nil {
		return jobAnswer{}, refusal
	}
	minutes, refusal := stepTimeout(doc)
	if refusal != nil {
		return jobAnswer{}, refusal
	}
	e, ok := s.execution(jobID, t.Name)
	if !ok {
		return jobAnswer{}, notFound("job %s has no execution for thing %s", jobID, t.Name)
	}
	if refusal := checkVersion(e, member(doc, "expectedVersion")); refusal != nil {
		return jobAnswer{}, refusal
	}
	if e.Final() {
		return jobAnswer{}, ended(e)
	}
	e.VersionNumber++
	if minutes > 0 && status == InProgress {
		s.limitStep(t, e, minutes)
	}
	s.advance(t, e, status, details)
	var answer jobAnswer
	if !s.options.TerseUpdates || member(doc, "includeJobExecutionState").Type == gjson.True {
		answer.ExecutionState = e.state()
	}
	if member(doc, "includeJobDocument").Type == gjson.True {
		answer.Document = e.Document
	}
	return answer, nil
}

// checkVersion takes an integer, and a string that holds one, as AWS devices send it. It comes
// before the check for a final state, so that a repeated update whose answer was lost learns from
// the state that it was carried out.
func checkVersion(e *JobExecution, expected gjson.Result) *Refusal {
	if !expected.Exists() {
		return nil
	}
	n, ok := integer(expected)
	if expected.Type == gjson.String {
		var err error
		n, err = strconv.ParseInt(expected.Str, 10, 64)
		ok = err == nil
	}
	if !ok {
		return invalid("expectedVersion %s is no integer", expected.Raw)
	}
	if n != e.VersionNumber {
		r := conflict("expectedVersion %d is not the execution's version %d", n, e.VersionNumber)
		r.State = e.state()
		return r
	}
	return nil
}

func ended(e *JobExecution) *Refusal {
	return &Refusal{Status: http.StatusConflict, Code: "TerminalStateReached", Message: "the execution is " + e.Status, State: e.state()}
}

func statusDetails(doc gjson.Result) (json.RawMessage, *Refusal) {
	v := member(doc, "statusDetails")
	if v.Exists() && !v.IsObject() {
		return nil, invalid("statusDetails is no object")
	}
	return raw(v), nil
}

func stepTimeout(doc gjson.Result) (minutes int64, refusal *Refusal) {
	v := member(doc, "stepTimeoutInMinutes")
	if !v.Exists() {
		return 0, nil
	}
	n, ok := integer(v)
	if !ok || n < 1 || n > 10080 {
		return 0, invalid("stepTimeoutInMinutes %s is no integer from 1 to 10080", v.Raw)
	}
	return n, nil
}
