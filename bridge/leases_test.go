package bridge

import (
	"fmt"
	"testing"
	"testing/synctest"

	"fleetbridge/mapping"
)

// startNext asks for work while the cloud hands out this run of job j1.
func (c *counter) startNext(t *testing.T, worker, run string) (Response, *RequestError) {
	t.Helper()
	q := Request{Address: at(mapping.JobsStartNext, ""), Worker: worker, Payload: []byte(`{"clientToken":"mine"}`)}
	return c.ask(t, q, mapping.JobsStartNextAccepted, `{"execution":{"jobId":"j1","executionNumber":`+run+`}}`)
}

// update tells how it goes with job j1, and what the cloud says to that.
func (c *counter) update(t *testing.T, worker, status string, on mapping.Channel, answer string) *RequestError {
	t.Helper()
	q := Request{Address: at(mapping.JobUpdate, "j1"), Worker: worker, Payload: []byte(`{"status":"` + status + `"}`)}
	_, err := c.ask(t, q, on, answer)
	return err
}

// holder checks who has job j1; empty: nobody.
func (c *counter) holder(t *testing.T, want string) {
	t.Helper()
	lease, held, err := c.desk.Leases.Holder(t.Context(), "j1")
	if err != nil || held != (want != "") || lease.Worker != want {
		t.Errorf("the lease is %+v, %v, %v; want one of %q", lease, held, err, want)
	}
}

// An answer that nobody heard is everybody's, and the lease that came with it is nobody's.
func TestUnheardAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter(t)
		r, _ := c.startNext(t, "a", "1")
		c.holder(t, "a")
		r.Unheard(t.Context())
		c.holder(t, "")
		got := c.down.messages()
		if len(got) != 1 || got[0].Address != at(mapping.JobsStartNextAccepted, "") ||
			string(got[0].Payload) != `{"execution":{"jobId":"j1","executionNumber":1},"clientToken":"mine"}` {
			t.Errorf("published %+v", got)
		}
		r, err := c.ask(t, Request{Address: at(mapping.JobsGet, "")}, mapping.JobsGetRejected, `{"code":"InternalError"}`)
		if err == nil || r.Unheard == nil {
			t.Fatalf("%+v, %v", r, err)
		}
		r.Unheard(t.Context())
		if got := c.down.messages(); len(got) != 2 || got[1].Address.Channel != mapping.JobsGetRejected {
			t.Errorf("published %+v", got)
		}
		c.down.err = Rejectf(CodeTooLarge, "too large")
		r.Unheard(t.Context())
		if len(c.dead.letters) != 1 {
			t.Errorf("dead letters %+v", c.dead.letters)
		}
		if r, _ := c.ask(t, Request{Address: at(mapping.JobsGet, "")}, "", ""); r.Unheard != nil {
			t.Error("what the bridge says itself would be published")
		}
	})
}

// A lease is given back only if its worker was never told of it.
func TestUnheardAnswerToAHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter(t)
		first, _ := c.startNext(t, "a", "1")
		again, _ := c.startNext(t, "a", "1")
		again.Unheard(t.Context())
		c.holder(t, "a")
		first.Unheard(t.Context()) // it asked again, and works
		c.holder(t, "a")
		if err := c.update(t, "a", "SUCCEEDED", mapping.JobUpdateAccepted, `{}`); err != nil {
			t.Error(err)
		}
		_, _ = c.startNext(t, "b", "2")
		first.Unheard(t.Context())
		c.holder(t, "b")
		other, err := c.startNext(t, "c", "2")
		if err == nil || err.Code != 409 {
			t.Errorf("another worker: %+v", err)
		}
		other.Unheard(t.Context())
		c.holder(t, "b")
	})
}

// A lease is one of a run: the next run of the job is anybody's, with a name or without.
func TestLeaseOfAnEarlierRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter(t)
		_, _ = c.startNext(t, "a", "1")
		if _, err := c.startNext(t, "b", "2"); err != nil {
			t.Errorf("the next run: %+v", err)
		}
		c.holder(t, "b")
		if err := c.update(t, "a", "IN_PROGRESS", mapping.JobUpdateAccepted, `{}`); err == nil || err.Code != 409 {
			t.Errorf("the worker of the first run: %+v", err)
		}
		if _, err := c.startNext(t, "", "3"); err != nil {
			t.Errorf("a worker without a name: %+v", err)
		}
		c.holder(t, "")
		if err := c.update(t, "c", "IN_PROGRESS", mapping.JobUpdateAccepted, `{}`); err != nil {
			t.Errorf("another worker's update of a run that nobody leased: %+v", err)
		}
	})
}

// What ends a lease, and what does not.
func TestLeaseEnds(t *testing.T) {
	for _, c := range []struct {
		name, status string
		on           mapping.Channel
		answer       string
		ends         bool
	}{
		{"progress", "IN_PROGRESS", mapping.JobUpdateAccepted, `{}`, false},
		{"succeeded", "SUCCEEDED", mapping.JobUpdateAccepted, `{}`, true},
		{"failed", "FAILED", mapping.JobUpdateAccepted, `{}`, true},
		{"rejected", "REJECTED", mapping.JobUpdateAccepted, `{}`, true},
		{"mismatch that is success", "SUCCEEDED", mapping.JobUpdateRejected, `{"code":"VersionMismatch","executionState":{"status":"SUCCEEDED"}}`, true},
		{"mismatch that is progress", "IN_PROGRESS", mapping.JobUpdateRejected, `{"code":"VersionMismatch","executionState":{"status":"IN_PROGRESS"}}`, false},
		{"mismatch", "SUCCEEDED", mapping.JobUpdateRejected, `{"code":"VersionMismatch","executionState":{"status":"IN_PROGRESS"}}`, false},
		{"mismatch with the end", "SUCCEEDED", mapping.JobUpdateRejected, `{"code":"VersionMismatch","executionState":{"status":"CANCELED"}}`, true},
		{"terminal state reached", "IN_PROGRESS", mapping.JobUpdateRejected, `{"code":"TerminalStateReached"}`, true},
		{"invalid transition", "IN_PROGRESS", mapping.JobUpdateRejected, `{"code":"InvalidStateTransition"}`, true},
		{"not found", "IN_PROGRESS", mapping.JobUpdateRejected, `{"code":"ResourceNotFound"}`, true},
		{"another code, timed out", "IN_PROGRESS", mapping.JobUpdateRejected, `{"code":"Other","executionState":{"status":"TIMED_OUT"}}`, true},
		{"another code, removed", "IN_PROGRESS", mapping.JobUpdateRejected, `{"code":"Other","executionState":{"status":"REMOVED"}}`, true},
		{"another code", "SUCCEEDED", mapping.JobUpdateRejected, `{"code":"InternalError"}`, false},
		{"no answer", "SUCCEEDED", "", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				desk := newCounter(t)
				_, _ = desk.startNext(t, "a", "1")
				_ = desk.update(t, "a", c.status, c.on, c.answer)
				holder := "a"
				if c.ends {
					holder = ""
				}
				desk.holder(t, holder)
			})
		})
	}
}

// A cloud that hands out ever new jobs to who asks leaves few leases, and those of workers that end theirs cost none.
func TestLeasesAreBounded(t *testing.T) {
	state := newMemory()
	l := NewLeases(pump07, state)
	take := func(job string) {
		t.Helper()
		if _, err := l.Take(t.Context(), job, Lease{Worker: "w", Execution: 1}); err != nil {
			t.Fatal(err)
		}
	}
	take("kept")
	for i := range 5 * maxLeases { // these end
		job := fmt.Sprint("short ", i)
		take(job)
		if err := l.Release(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	if _, held, err := l.Holder(t.Context(), "kept"); !held || err != nil {
		t.Errorf("the only lease is gone, %v", err)
	}
	for i := range 3 * maxLeases {
		take(fmt.Sprint("invented ", i))
	}
	n := 0
	if err := state.List(t.Context(), "", func(string, []byte) error { n++; return nil }); err != nil || n != maxLeases {
		t.Errorf("%d leases, want %d; %v", n, maxLeases, err)
	}
	if len(l.order) > 2*maxLeases+1 || len(l.fresh) > maxLeases {
		t.Errorf("%d and %d are remembered", len(l.order), len(l.fresh))
	}
	if _, held, err := l.Holder(t.Context(), fmt.Sprint("invented ", 3*maxLeases-1)); !held || err != nil {
		t.Errorf("the newest lease is gone, %v", err)
	}
}
