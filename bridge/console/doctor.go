package console

import (
	"context"
	"maps"
	"net/http"
	"sync"
	"time"

	"fleetbridge/internal/doctor"
)

// actDoctor is the action of console.actions that lets operators have the bridge examined.
const actDoctor = "doctor"

var doctorEndpoints = []endpoint{
	{method: "POST", path: "doctor", role: operator, action: actDoctor, about: "Begin what fleetbridge doctor does while the bridge runs: connect to everything that the configuration names, ask for each Thing's jobs and shadow, time writes to the disk. " +
		"It changes nothing, and ends within two minutes. One examination goes on at a time, 409 says so. The answer is that of GET.",
		sample: `{"running":true,"began":"…","healthy":false,"counts":{"ok":0,"warn":0,"fail":0,"skip":0},"findings":[]}`,
		answer: (*Console).examine},
	{method: "GET", path: "doctor", role: operator, about: "What the examination has found so far, or the last one since the start of the bridge, in the order of the checks. status is ok, warn, fail or skip. " +
		"Of what is wrong the first 500 are kept, and of the rest, too; left is how many more there are.",
		sample: `{"running":false,"began":"…","ended":"…","healthy":false,"counts":{"ok":27,"warn":1,"fail":1,"skip":1},"findings":[{"status":"fail","check":"clock","detail":"40s behind the cloud's, …","mend":"set this machine's clock, …"}],"left":0}`,
		answer: (*Console).examined},
}

// Bounds of an examination.
const (
	examineTime = 2 * time.Minute
	examineStep = 10 * time.Second
	maxFindings = 500 // of what is wrong, and of the rest
)

// examination is the last one, or the one that goes on.
type examination struct {
	mu    sync.Mutex
	now   doctorAnswer
	ended chan struct{} // closed when the last one has ended; nil: there was none
}

// wait returns when none goes on. None begins any more, as the bridge stops.
func (e *examination) wait() {
	e.mu.Lock()
	ended := e.ended
	e.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

type doctorAnswer struct {
	Running  bool                  `json:"running"`
	Began    time.Time             `json:"began,omitzero"`
	Ended    time.Time             `json:"ended,omitzero"`
	Healthy  bool                  `json:"healthy"` // nothing has failed; of no meaning while it runs
	Counts   map[doctor.Status]int `json:"counts"`
	Findings []doctor.Finding      `json:"findings"`
	Left     int                   `json:"left,omitempty"`
}

func (d *doctorAnswer) add(f doctor.Finding) {
	d.Counts[f.Status]++
	kept := d.Counts[doctor.OK] + d.Counts[doctor.Skip]
	if wrong(f) {
		kept = d.Counts[doctor.Fail] + d.Counts[doctor.Warn]
	}
	if kept > maxFindings {
		d.Left++
		return
	}
	d.Findings = append(d.Findings, f)
}

// copied is an answer that nobody adds to.
func (d doctorAnswer) copied() doctorAnswer {
	d.Findings = append([]doctor.Finding{}, d.Findings...)
	counts := map[doctor.Status]int{doctor.OK: 0, doctor.Warn: 0, doctor.Fail: 0, doctor.Skip: 0}
	maps.Copy(counts, d.Counts)
	d.Counts = counts
	return d
}

func wrong(f doctor.Finding) bool { return f.Status == doctor.Fail || f.Status == doctor.Warn }

// examine begins an examination.
func (c *Console) examine(q *request) (any, error) {
	e := &c.examination
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.now.Running {
		return nil, refuse(http.StatusConflict, "an examination goes on already, since %s; wait for its end", e.now.Began.Format(time.TimeOnly))
	}
	if c.run.Err() != nil {
		return nil, refuse(http.StatusServiceUnavailable, "the bridge stops")
	}
	d, err := doctor.New(c.gateway.Config(), doctor.Options{Running: c.gateway, Timeout: examineStep}, func(f doctor.Finding) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.now.add(f)
	})
	if err != nil {
		return nil, err
	}
	c.log.Info("somebody has the bridge examined in the console", "role", q.session.role.String(), "login", q.session.id)
	e.now = doctorAnswer{Running: true, Began: now()}.copied()
	ended := make(chan struct{})
	e.ended = ended
	go func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(c.run, examineTime)
		defer cancel()
		healthy := d.Run(ctx)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.now.Running, e.now.Healthy, e.now.Ended = false, healthy, now()
	}()
	return e.now.copied(), nil
}

// examined answers with what is known.
func (c *Console) examined(*request) (any, error) {
	e := &c.examination
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now.copied(), nil
}
