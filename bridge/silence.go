package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"fleetbridge/mapping"
)

// silence notes whether the cloud answers jobs/get, which the bridge asks by itself on each connection. If the cloud does
// not answer, or the broker does not let the question pass, nothing else shows this outage.
type silence struct {
	mu    sync.Mutex
	why   string        // empty: it answers, or nobody knows yet
	heard chan struct{} // closed by an answer
}

// ask begins a question.
func (s *silence) ask() (heard <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = make(chan struct{})
	return s.heard
}

// answered notes an answer. It returns why there was none before.
func (s *silence) answered() (was string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heard != nil {
		close(s.heard)
		s.heard = nil
	}
	was, s.why = s.why, ""
	return was
}

// begins notes why there is no answer, and reports whether that is news.
func (s *silence) begins(why string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.why == ""
	s.why = why
	return first
}

// askForJobs asks for the pending jobs, and waits for the answer for as long as a program would.
func (t *Thing) askForJobs(ctx context.Context) {
	heard := t.silence.ask()
	failed := make(chan error, 1)
	err := t.exchange.Tell(ctx, mapping.Address{Thing: t.Name, Channel: mapping.JobsGet}, func(err error) {
		if err != nil {
			failed <- err
		}
	})
	if err != nil {
		failed <- err
	}
	if t.answers == 0 {
		return
	}
	timer := time.NewTimer(t.answers)
	defer timer.Stop()
	why := ""
	select {
	case <-heard:
		return
	case <-ctx.Done():
		return
	case err := <-failed:
		if errors.Is(err, ErrNotConnected) || ctx.Err() != nil {
			return
		}
		why = err.Error()
	case <-timer.C:
		why = fmt.Sprintf("no answer within %s: the cloud behind the broker is away, or its answers are not let through", t.answers)
	}
	if t.silence.begins(why) {
		t.ports.Log.Warn("the cloud does not answer jobs/get", "error", why)
	}
	t.silent(true)
	t.Status.Change(ctx, func(s *Status) { s.LastError = silentPrefix + why })
}

const silentPrefix = "jobs/get: "

// jobsHeard notes that the cloud answers.
func (t *Thing) jobsHeard(question mapping.Channel) {
	if question != mapping.JobsGet {
		return
	}
	why := t.silence.answered()
	if why == "" {
		return
	}
	t.ports.Log.Info("the cloud answers jobs/get again")
	t.silent(false)
	t.Status.Change(context.Background(), func(s *Status) {
		if s.LastError == silentPrefix+why {
			s.LastError = ""
		}
	})
}

func (t *Thing) silent(yes bool) {
	if t.ports.Silent != nil {
		t.ports.Silent(t.Name, yes)
	}
}
