package bridge

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// counter is a Desk with a scripted cloud behind it.
type counter struct {
	*Requests
	desk   *Desk
	link   *sink
	outbox *outbox
	down   *sink
	dead   *graveyard
}

func newCounter(t *testing.T) *counter {
	t.Helper()
	c := &counter{link: &sink{}, outbox: &outbox{}, down: &sink{}, dead: &graveyard{}}
	c.desk = &Desk{Thing: pump07, Catalog: catalog(t), Exchange: NewExchange(pump07, c.link, "test"),
		Leases: NewLeases(pump07, newMemory()), Outbox: c.outbox, Shadow: newShadow(t, newMemory(), archive{}),
		Down: c.down, Graveyard: c.dead}
	c.Requests = &Requests{Things: map[mapping.Thing]*Desk{pump07: c.desk}, Timeout: 10 * time.Second}
	return c
}

// ask handles a request while the cloud answers with answer on the channel; an empty channel: never.
func (c *counter) ask(t *testing.T, q Request, on mapping.Channel, answer string) (Response, *RequestError) {
	t.Helper()
	q.Thing = pump07
	c.link.on = func(question Message) {
		if on != "" {
			m := Message{Address: mapping.Address{Thing: pump07, Channel: on, ID: question.Address.ID}, Payload: []byte(answer)}
			c.desk.Exchange.Answer(m)
		}
	}
	r, err := c.Handle(t.Context(), q)
	failed := (*RequestError)(nil)
	if err != nil && !errors.As(err, &failed) {
		t.Fatalf("an error without a code: %v", err)
	}
	return r, failed
}

func TestRequestErrors(t *testing.T) {
	for _, c := range []struct {
		name    string
		request Request
		on      mapping.Channel
		answer  string
		code    int
		message string
	}{
		{"bad payload", Request{Address: at(mapping.JobUpdate, "j"), Payload: []byte(`{"status":"DONE"}`)}, "", "", 400, ""},
		{"foreign thingName", Request{Address: at(mapping.JobsGet, ""), Payload: []byte(`{"thingName":"x"}`)}, "", "", 400, ""},
		{"bad event", Request{Address: at(mapping.Event, "boot"), Payload: []byte(`{}`)}, "", "", 400, ""},
		{"no answer", Request{Address: at(mapping.JobsGet, "")}, "", "", 504, "no answer from the cloud within 10s"},
		{"no answer in the caller's time", Request{Address: at(mapping.JobsGet, ""), Timeout: time.Second}, "", "", 504, "no answer from the cloud within 1s"},
		{"no answer in the configured time", Request{Address: at(mapping.JobsGet, ""), Timeout: time.Hour}, "", "", 504, "no answer from the cloud within 10s"},
		{"version conflict", Request{Address: at(mapping.JobUpdate, "j"), Payload: []byte(`{"status":"SUCCEEDED"}`)}, mapping.JobUpdateRejected,
			`{"code":"VersionMismatch","message":"is 3","executionState":{"status":"IN_PROGRESS","versionNumber":3}}`, 409, "VersionMismatch: is 3"},
		{"problem+json conflict", Request{Address: at(mapping.JobUpdate, "j"), Payload: []byte(`{"status":"SUCCEEDED"}`)}, mapping.JobUpdateRejected,
			`{"status":409,"title":"Conflict","detail":"version"}`, 409, "409: version"},
		{"rejected otherwise", Request{Address: at(mapping.JobsGet, "")}, mapping.JobsGetRejected, `{"code":"InternalError","message":"boom"}`, 502, "InternalError: boom"},
		{"numeric code", Request{Address: at(mapping.JobsGet, "")}, mapping.JobsGetRejected, `{"code":500,"error":"x"}`, 502, "500: x"},
		{"no reason", Request{Address: at(mapping.JobsGet, "")}, mapping.JobsGetRejected, `{}`, 502, "the cloud rejected it without a reason"},
		{"unknown shadow", Request{ShadowGet: true}, "", "", 503, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, err := newCounter(t).ask(t, c.request, c.on, c.answer)
				if err == nil || err.Code != c.code || c.message != "" && err.Message != c.message {
					t.Errorf("got %+v, want %d %s", err, c.code, c.message)
				}
			})
		})
	}
}

func TestUnknownThingAndLinkDown(t *testing.T) {
	c := newCounter(t)
	failed := (*RequestError)(nil)
	if _, err := c.Handle(t.Context(), Request{Thing: "other", ShadowGet: true}); !errors.As(err, &failed) || failed.Code != 404 {
		t.Error(err)
	}
	c.link.err = ErrNotConnected
	if _, err := c.Handle(t.Context(), Request{Thing: pump07, Address: at(mapping.JobsGet, "")}); !errors.As(err, &failed) || failed.Code != 503 {
		t.Error(err)
	}
}

func TestAcceptedIsReturnedAsItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := `{ "queuedJobs":[ {"jobId":"j","executionNumber":1780000000000123} ] }`
		r, err := newCounter(t).ask(t, Request{Address: at(mapping.JobsGet, "")}, mapping.JobsGetAccepted, answer)
		if err != nil || string(r.Payload) != answer {
			t.Errorf("%s, %v", r.Payload, err)
		}
	})
}

// A lost answer: the update had worked.
func TestVersionMismatchThatIsSuccess(t *testing.T) {
	for _, c := range []struct {
		name, sent, state string
		success           bool
	}{
		{"final status", `{"status":"SUCCEEDED"}`, `{"status":"SUCCEEDED","versionNumber":3}`, true},
		{"final status, details not told", `{"status":"SUCCEEDED","statusDetails":{"p":1}}`, `{"status":"SUCCEEDED"}`, true},
		{"final status, other details", `{"status":"FAILED","statusDetails":{"p":1}}`, `{"status":"FAILED","statusDetails":{"p":2}}`, false},
		{"another status", `{"status":"SUCCEEDED"}`, `{"status":"CANCELED"}`, false},
		{"progress, equal details", `{"status":"IN_PROGRESS","statusDetails":{"a":1,"b":[2]}}`, `{"status":"IN_PROGRESS","statusDetails":{"b":[2],"a":1}}`, true},
		{"progress, other details", `{"status":"IN_PROGRESS","statusDetails":{"a":1}}`, `{"status":"IN_PROGRESS","statusDetails":{"a":2}}`, false},
		{"progress, details not told", `{"status":"IN_PROGRESS","statusDetails":{"a":1}}`, `{"status":"IN_PROGRESS"}`, false},
		{"progress that can't be ours", `{"status":"IN_PROGRESS","expectedVersion":8}`, `{"status":"IN_PROGRESS","versionNumber":1}`, false},
		{"progress that may be ours", `{"status":"IN_PROGRESS","expectedVersion":1}`, `{"status":"IN_PROGRESS","versionNumber":2}`, true},
		{"progress without details", `{"status":"IN_PROGRESS"}`, `{"status":"IN_PROGRESS"}`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := newCounter(t).ask(t, Request{Address: at(mapping.JobUpdate, "j"), Payload: []byte(c.sent)}, mapping.JobUpdateRejected,
					`{"code":"VersionMismatch","message":"m","executionState":`+c.state+`}`)
				if c.success && (err != nil || string(r.Payload) != `{"executionState":`+c.state+`}`) {
					t.Errorf("%s, %+v", r.Payload, err)
				}
				if !c.success && (err == nil || err.Code != 409) {
					t.Errorf("%s, %+v", r.Payload, err)
				}
			})
		})
	}
}

// Trap T10: two workers race for one execution.
func TestT10Leases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter(t)
		started := `{"execution":{"jobId":"j1","executionNumber":1780000000000123,"status":"IN_PROGRESS"}}`
		start := func(worker, answer string) (Response, *RequestError) {
			return c.ask(t, Request{Address: at(mapping.JobsStartNext, ""), Worker: worker}, mapping.JobsStartNextAccepted, answer)
		}
		update := func(worker, status string) *RequestError {
			_, err := c.ask(t, Request{Address: at(mapping.JobUpdate, "j1"), Worker: worker, Payload: []byte(`{"status":"` + status + `"}`)}, mapping.JobUpdateAccepted, `{}`)
			return err
		}
		if _, err := start("a", started); err != nil {
			t.Fatal(err)
		}
		if _, err := start("b", started); err == nil || err.Code != 409 {
			t.Errorf("another worker: %+v", err)
		}
		if _, err := start("", started); err == nil || err.Code != 409 {
			t.Errorf("nobody in particular: %+v", err)
		}
		if r, err := start("a", started); err != nil || string(r.Payload) != started {
			t.Errorf("the same worker: %s %+v", r.Payload, err)
		}
		if err := update("b", "FAILED"); err == nil || err.Code != 409 {
			t.Errorf("another worker's update: %+v", err)
		}
		if err := update("a", "IN_PROGRESS"); err != nil {
			t.Error(err)
		}
		if _, err := start("b", started); err == nil || err.Code != 409 {
			t.Errorf("after progress: %+v", err)
		}
		if err := update("a", "SUCCEEDED"); err != nil {
			t.Error(err)
		}
		if _, err := start("b", `{"execution":{"jobId":"j1","executionNumber":1780000000000124}}`); err != nil {
			t.Errorf("the next run of the job: %+v", err)
		}
		if r, err := start("c", `{"timestamp":1}`); err != nil || gjson.GetBytes(r.Payload, "execution").Exists() {
			t.Errorf("nothing pending: %s %+v", r.Payload, err)
		}
	})
}

// Trap T33: the cloud ended the execution meanwhile; the lease must not outlive it.
func TestT33LeaseEndsWithTheExecution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter(t)
		q := Request{Address: at(mapping.JobsStartNext, ""), Worker: "a"}
		if _, err := c.ask(t, q, mapping.JobsStartNextAccepted, `{"execution":{"jobId":"j1","executionNumber":1}}`); err != nil {
			t.Fatal(err)
		}
		u := Request{Address: at(mapping.JobUpdate, "j1"), Worker: "a", Payload: []byte(`{"status":"SUCCEEDED"}`)}
		if _, err := c.ask(t, u, mapping.JobUpdateRejected, `{"code":"TerminalStateReached"}`); err == nil || err.Code != 502 {
			t.Errorf("got %+v", err)
		}
		if _, held, _ := c.desk.Leases.Holder(t.Context(), "j1"); held {
			t.Error("the lease is still there")
		}
	})
}

func TestStoredRequests(t *testing.T) {
	c := newCounter(t)
	r, err := c.Handle(t.Context(), Request{Thing: pump07, Address: at(mapping.Event, "boot"), Payload: []byte(`{"eventType":"boot","severity":"info"}`)})
	if err != nil || string(r.Payload) != `{"stream":"FLEETS_UP_CONTROL","seq":1}` {
		t.Errorf("%s, %v", r.Payload, err)
	}
	c.outbox.fail = errors.New("maximum bytes exceeded")
	failed := (*RequestError)(nil)
	_, err = c.Handle(t.Context(), Request{Thing: pump07, Address: at(mapping.Event, "boot"), Payload: []byte(`{"eventType":"boot","severity":"info"}`)})
	if !errors.As(err, &failed) || failed.Code != 503 {
		t.Error(err)
	}
}

// api is the Fleets HTTP API.
type api struct {
	doc string
	err error
}

func (a api) Shadow(context.Context, mapping.Thing) ([]byte, error) { return []byte(a.doc), a.err }

func TestShadowGet(t *testing.T) {
	c := newCounter(t)
	doc := `{"reported":{"a":1},"desired":{},"delta":{},"version":4,"updatedAt":"2026-05-27T10:05:00Z"}`
	ask := func() (Response, *RequestError) { return c.ask(t, Request{ShadowGet: true}, "", "") }
	c.desk.API = api{err: errors.New("connection refused")}
	if _, err := ask(); err == nil || err.Code != 503 {
		t.Errorf("nothing known: %+v", err)
	}
	c.desk.API = api{doc: doc}
	if r, err := ask(); err != nil || string(r.Payload) != doc || r.Header[HeaderStale] != "" {
		t.Errorf("%s %v %+v", r.Payload, r.Header, err)
	}
	again := newShadow(t, c.desk.Shadow.bucket, archive{})
	if got := string(again.Document()); got != doc {
		t.Errorf("after a restart, what was shown once is %s", got)
	}
	c.desk.API = api{err: errors.New("connection refused")}
	if r, err := ask(); err != nil || string(r.Payload) != doc || r.Header[HeaderStale] != "true" {
		t.Errorf("%s %v %+v", r.Payload, r.Header, err)
	}
	c.desk.API = api{err: ErrNotFound}
	if _, err := ask(); err == nil || err.Code != 404 {
		t.Errorf("not registered: %+v", err)
	}
}

// slow is a bucket whose writes take a while.
type slow struct {
	*memory
	takes time.Duration
}

func (b slow) Put(ctx context.Context, key string, value []byte) error {
	if err := flow.Sleep(ctx, b.takes); err != nil {
		return err
	}
	return b.memory.Put(ctx, key, value)
}

// TestAnswerAtTheLastMoment: an answer that has come is told, whatever the time that is left to remember its lease.
func TestAnswerAtTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter(t)
		c.desk.Leases = NewLeases(pump07, slow{newMemory(), 200 * time.Millisecond})
		c.link.on = func(question Message) {
			go func() {
				time.Sleep(900 * time.Millisecond)
				c.desk.Exchange.Answer(Message{Address: at(mapping.JobsStartNextAccepted, ""), Payload: []byte(`{"execution":{"jobId":"j1","executionNumber":1}}`)})
			}()
		}
		r, err := c.Handle(t.Context(), Request{Thing: pump07, Address: at(mapping.JobsStartNext, ""), Worker: "a", Timeout: time.Second})
		if err != nil || len(r.Payload) == 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
