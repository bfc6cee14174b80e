package local

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

type handle func(ctx context.Context, r bridge.Request) (bridge.Response, error)

func (h handle) Handle(ctx context.Context, r bridge.Request) (bridge.Response, error) {
	return h(ctx, r)
}

func served(t *testing.T, slots int, h handle) (*rig, *nats.Conn) {
	t.Helper()
	r := newRig(t, "pump")
	s := &Service{nc: r.nc, answers: wire.NewAnswers(r.nc, slog.New(slog.DiscardHandler)), subjects: r.subjects, handler: h, slots: flow.Quota{Limit: slots}}
	if err := s.start("v1.2.3"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, r.program()
}

func ask(t *testing.T, nc *nats.Conn, subject, payload string, headers ...string) *nats.Msg {
	t.Helper()
	m := nats.NewMsg(subject)
	m.Data = []byte(payload)
	for i := 0; i+1 < len(headers); i += 2 {
		m.Header[headers[i]] = []string{headers[i+1]}
	}
	answer, err := nc.RequestMsg(m, patience)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return answer
}

func TestRequestsReachTheHandler(t *testing.T) {
	t.Parallel()
	got := make(chan bridge.Request, 1)
	_, nc := served(t, 8, func(_ context.Context, r bridge.Request) (bridge.Response, error) {
		got <- r
		return bridge.Response{Payload: []byte("answer"), Header: map[string]string{"Fleets-Stale": "true"}}, nil
	})
	trace := bridge.Trace{Parent: "00-1-2-01", State: "a=b"}
	for _, c := range []struct {
		subject string
		want    mapping.Address
	}{
		{"fleets.req.pump.jobs.get", mapping.Address{Channel: mapping.JobsGet}},
		{"fleets.req.pump.jobs.start-next", mapping.Address{Channel: mapping.JobsStartNext}},
		{"fleets.req.pump.jobs.get.get", mapping.Address{Channel: mapping.JobGet, ID: "get"}},
		{"fleets.req.pump.jobs.j=2E1.update", mapping.Address{Channel: mapping.JobUpdate, ID: "j.1"}},
		{"fleets.req.pump.shadow.update", mapping.Address{Channel: mapping.ShadowReport}},
		{"fleets.req.pump.events.x", mapping.Address{Channel: mapping.Event, ID: "x"}},
		{"fleets.req.pump.commands.e.response", mapping.Address{Channel: mapping.CommandResponse, ID: "e"}},
		{"fleets.req.com=2Eacme.shadow.get", mapping.Address{}},
	} {
		answer := ask(t, nc, c.subject, "question", "Fleets-Worker", "w", "Fleets-Timeout", "1m30s", "traceparent", trace.Parent, "tracestate", trace.State)
		if string(answer.Data) != "answer" || answer.Header.Get("Fleets-Stale") != "true" {
			t.Errorf("%s: %s %v", c.subject, answer.Data, answer.Header)
		}
		r := <-got
		want := bridge.Request{Thing: "pump", Address: c.want, Payload: []byte("question"), Worker: "w", Timeout: 90 * time.Second, Trace: trace}
		want.Address.Thing = "pump"
		if c.want == (mapping.Address{}) {
			want.Thing, want.Address, want.ShadowGet = "com.acme", mapping.Address{}, true
		}
		if string(r.Payload) != "question" || r.Thing != want.Thing || r.Address != want.Address || r.ShadowGet != want.ShadowGet ||
			r.Worker != want.Worker || r.Timeout != want.Timeout || r.Trace != want.Trace {
			t.Errorf("%s:\n%+v\n%+v", c.subject, r, want)
		}
	}
}

func TestRequestErrors(t *testing.T) {
	t.Parallel()
	type result struct {
		response bridge.Response
		err      error
	}
	var next atomic.Pointer[result]
	_, nc := served(t, 8, func(context.Context, bridge.Request) (bridge.Response, error) {
		r := next.Load()
		return r.response, r.err
	})
	for _, c := range []struct {
		name, subject, timeout string
		fail                   error
		code, text, body       string
	}{
		{"known", "fleets.req.pump.jobs.get", "", &bridge.RequestError{Code: 409, Message: "leased\nto another", Details: []schemas.Detail{{Pointer: "/a", Message: "b"}}},
			"409", "leased to another", `{"code":409,"message":"leased\nto another","details":[{"pointer":"/a","message":"b"}]}`},
		{"no details", "fleets.req.pump.jobs.get", "", &bridge.RequestError{Code: 404, Message: "unknown Thing"}, "404", "unknown Thing", `{"code":404,"message":"unknown Thing"}`},
		{"other", "fleets.req.pump.jobs.get", "", errors.New("oops"), "500", "oops", `{"code":500,"message":"oops"}`},
		{"long", "fleets.req.pump.jobs.get", "", errors.New(strings.Repeat("e", 5000)), "500", strings.Repeat("e", 1021) + "...", ""},
		{"token", "fleets.req.pu=mp.jobs.get", "", nil, "400", "", ""},
		{"thing", "fleets.req.a=2Fb.jobs.get", "", nil, "400", "", ""},
		{"id", "fleets.req.pump.jobs.=6A.get", "", nil, "400", "", ""},
		{"shadow token", "fleets.req.pu=2emp.shadow.get", "", nil, "400", "", ""},
		{"timeout", "fleets.req.pump.jobs.get", "soon", nil, "400", `header Fleets-Timeout: "soon" is no positive duration, write for example 5s`, ""},
		{"no timeout", "fleets.req.pump.jobs.get", "0s", nil, "400", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			next.Store(&result{err: c.fail})
			var headers []string
			if c.timeout != "" {
				headers = []string{"Fleets-Timeout", c.timeout}
			}
			m := ask(t, nc, c.subject, "", headers...)
			if m.Header.Get(micro.ErrorCodeHeader) != c.code || m.Header.Get(micro.ErrorHeader) == "" || c.text != "" && m.Header.Get(micro.ErrorHeader) != c.text {
				t.Errorf("headers %v", m.Header)
			}
			if !json.Valid(m.Data) || c.body != "" && string(m.Data) != c.body {
				t.Errorf("body %s", m.Data)
			}
		})
	}
	next.Store(&result{response: bridge.Response{Payload: make([]byte, 1<<20+1)}})
	if m := ask(t, nc, "fleets.req.pump.jobs.get", ""); m.Header.Get(micro.ErrorCodeHeader) != "500" || !strings.Contains(m.Header.Get(micro.ErrorHeader), "1048") {
		t.Errorf("too large: %v", m.Header)
	}
}

func TestSlowRequestsBlockNobody(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}, 4), make(chan struct{})
	_, nc := served(t, 4, func(ctx context.Context, r bridge.Request) (bridge.Response, error) {
		if string(r.Payload) == "slow" {
			started <- struct{}{}
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return bridge.Response{}, nil
	})
	slow := make(chan error, 2)
	block := func() {
		go func() {
			_, err := nc.Request("fleets.req.pump.jobs.get", []byte("slow"), patience)
			slow <- err
		}()
		<-started
	}
	block()
	if m := ask(t, nc, "fleets.req.pump.jobs.get", "quick"); len(m.Header) != 0 {
		t.Errorf("%v", m.Header)
	}
	block()
	if m := ask(t, nc, "fleets.req.pump.jobs.get", "quick"); m.Header.Get(micro.ErrorCodeHeader) != "503" || !strings.Contains(m.Header.Get(micro.ErrorHeader), "busy") {
		t.Errorf("%v", m.Header)
	}
	if m := ask(t, nc, "fleets.req.fan.jobs.get", "quick"); len(m.Header) != 0 {
		t.Errorf("another Thing has no share: %v", m.Header)
	}
	close(release)
	for range 2 {
		if err := <-slow; err != nil {
			t.Error(err)
		}
	}
}

func TestCloseEndsRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	started := make(chan struct{})
	s, err := Serve(r.nc, handle(func(ctx context.Context, _ bridge.Request) (bridge.Response, error) {
		close(started)
		<-ctx.Done()
		return bridge.Response{}, &bridge.RequestError{Code: 503, Message: "stopping"}
	}), ServiceConfig{Subjects: r.subjects, Version: "dev", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	nc := r.program()
	answer := make(chan string, 1)
	go func() {
		m, err := nc.Request("fleets.req.pump.jobs.get", nil, patience)
		if err != nil {
			answer <- err.Error()
			return
		}
		answer <- m.Header.Get(micro.ErrorHeader)
	}()
	<-started
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; got != "stopping" {
		t.Errorf("answer %s", got)
	}
	if _, err := nc.Request("fleets.req.pump.jobs.get", nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("after Close: %v", err)
	}
}

// A subject that is misspelt is answered, and once.
func TestMisspeltRequests(t *testing.T) {
	t.Parallel()
	_, nc := served(t, 8, func(context.Context, bridge.Request) (bridge.Response, error) { return bridge.Response{}, nil })
	for _, subject := range []string{"fleets.req.pump.evnts.x", "fleets.req.pump.shadow.updat", "fleets.req.pump", "fleets.req.pump.jobs", "fleets.req.pump.jobs.a.b.c.d",
		"fleets.req.pump.commands.x.request", "fleets.req.pump.shadow.update.delta", "fleets.req.pu=mp.jobs.get", "fleets.req.pump.events.=zz"} {
		sub, err := nc.SubscribeSync(nc.NewInbox())
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.PublishRequest(subject, sub.Subject, nil); err != nil {
			t.Fatal(err)
		}
		m, err := sub.NextMsg(patience)
		if err != nil || m.Header.Get(micro.ErrorCodeHeader) != "400" {
			t.Fatalf("%s: %v %v", subject, m, err)
		}
		if _, err := nc.Request("fleets.req.pump.jobs.get", nil, patience); err != nil { // what came before has been answered
			t.Fatal(err)
		}
		if n, _, err := sub.Pending(); err != nil || n != 0 {
			t.Errorf("%s: %d answers more, %v", subject, n, err)
		}
	}
}

func TestServiceDiscovery(t *testing.T) {
	t.Parallel()
	_, nc := served(t, 8, func(context.Context, bridge.Request) (bridge.Response, error) { return bridge.Response{}, nil })
	ask(t, nc, "fleets.req.pump.jobs.get", "")
	m, err := nc.Request("$SRV.INFO.fleetbridge", nil, patience)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(m.Data, &info); err != nil || info.Name != "fleetbridge" || info.Version != "1.2.3" {
		t.Errorf("%s, %v", m.Data, err)
	}
	var got []string
	for _, e := range info.Endpoints {
		got = append(got, e.Name+" "+e.Subject+" "+e.Metadata["channel"])
		if e.Metadata["description"] == "" {
			t.Errorf("%s has no description", e.Name)
		}
	}
	sort.Strings(got)
	want := []string{
		"command-response fleets.req.*.commands.*.response command.response",
		"event fleets.req.*.events.* event",
		"job-get fleets.req.*.jobs.*.get job.get",
		"job-update fleets.req.*.jobs.*.update job.update",
		"jobs-get fleets.req.*.jobs.get jobs.get",
		"jobs-start-next fleets.req.*.jobs.start-next jobs.start-next",
		"shadow-get fleets.req.*.shadow.get shadow.get",
		"shadow-report fleets.req.*.shadow.update shadow.report",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("endpoints:\n%s", strings.Join(got, "\n"))
	}
	eventually(t, "one request is counted", func() bool { // behind its answer
		m, err := nc.Request("$SRV.STATS.fleetbridge", nil, patience)
		if err != nil {
			t.Fatal(err)
		}
		var stats micro.Stats
		if err := json.Unmarshal(m.Data, &stats); err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(stats.Endpoints, func(e *micro.EndpointStats) bool { return e.Name == "jobs-get" && e.NumRequests == 1 })
	})
}

func TestSemver(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"1.2.3": "1.2.3", "v1.2.3-rc.1+x": "1.2.3-rc.1+x", "dev": "0.0.0", "": "0.0.0", "1.2": "0.0.0"} {
		if got := semver(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

func TestHandlers(t *testing.T) {
	t.Parallel()
	r := newRig(t, "com.acme")
	nc := r.program()
	deadline := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	command := bridge.Call{Thing: "com.acme", Execution: "e/1", Action: "set temp", Payload: []byte(`{"n": 1.0}`), Deadline: deadline, Trace: bridge.Trace{Parent: "p", State: "s"}}
	if _, err := call(testContext(t), r, command); !errors.Is(err, bridge.ErrNoHandler) {
		t.Errorf("nobody: %v", err)
	}
	got := make(chan *nats.Msg, 1)
	var answer atomic.Pointer[nats.Msg]
	if _, err := nc.QueueSubscribe("fleets.cmd.com=2Eacme.set=20temp", "q", func(m *nats.Msg) {
		got <- m
		if a := answer.Load(); a != nil {
			_ = m.RespondMsg(&nats.Msg{Header: a.Header, Data: a.Data})
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		answer *nats.Msg
		want   bridge.Reply
	}{
		{&nats.Msg{Data: []byte(`{"status":"SUCCEEDED"}`)}, bridge.Reply{Payload: []byte(`{"status":"SUCCEEDED"}`)}},
		{&nats.Msg{}, bridge.Reply{}},
		{&nats.Msg{Header: nats.Header{"Nats-Service-Error-Code": {"17"}, "Nats-Service-Error": {"locked"}}, Data: []byte("x")}, bridge.Reply{Payload: []byte("x"), ErrorCode: "17", Error: "locked"}},
		{&nats.Msg{Header: nats.Header{"Nats-Service-Error": {"locked"}}}, bridge.Reply{ErrorCode: "500", Error: "locked"}},
	} {
		answer.Store(c.answer)
		reply, err := call(testContext(t), r, command)
		if err != nil || string(reply.Payload) != string(c.want.Payload) || reply.ErrorCode != c.want.ErrorCode || reply.Error != c.want.Error {
			t.Errorf("%+v, %v", reply, err)
		}
		m := <-got
		if string(m.Data) != `{"n": 1.0}` {
			t.Errorf("payload %s", m.Data)
		}
		wantHeaders(t, m.Header, map[string]string{"Fleets-Execution": "e/1", "Fleets-Deadline": "2026-01-02T03:04:05Z", "traceparent": "p", "tracestate": "s"})
	}
	answer.Store(nil)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-got; cancel() }()
	if _, err := call(ctx, r, command); !errors.Is(err, context.Canceled) {
		t.Errorf("no answer: %v", err)
	}
}

// What a handler replies to the call of a bridge that is gone, the next one hears, between accounts too.
func TestReplyToAnEarlierCall(t *testing.T) {
	t.Parallel()
	inYards(t, []access.User{{Name: "alice", Things: []mapping.Thing{"a"}}}, func(t *testing.T, y *yard) {
		calls := make(chan *nats.Msg, 1)
		alice := y.as("alice")
		if _, err := alice.ChanSubscribe("fleets.cmd.a.purge", calls); err != nil {
			t.Fatal(err)
		}
		flush(t, alice)
		h := NewHandlers(y.nc, y.subjects, y.server)
		first, err := h.Listen("a", "secret")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(testContext(t))
		ended := make(chan error, 1)
		go func() {
			_, err := first.Call(ctx, bridge.Call{Thing: "a", Action: "purge", Execution: "e"})
			ended <- err
		}()
		call := <-calls
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		first.Close()
		second, err := h.Listen("a", "secret")
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		flush(t, y.nc)
		if err := call.Respond([]byte("done")); err != nil {
			t.Fatal(err)
		}
		if reply, err := second.Wait(testContext(t)); err != nil || string(reply.Payload) != "done" {
			t.Errorf("%+v, %v", reply, err)
		}
	})
}

// TestIllegibleRequests: a request whose headers can't be read is refused, whoever sends it, and not carried out as if it
// had none.
func TestIllegibleRequests(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"alice", ""} {
		config := ServerConfig{}
		if name != "" {
			config.Users = []access.User{{Name: name, Password: "secret", Things: []mapping.Thing{"pump"}}}
		}
		r := newRigWith(t, config, StoreConfig{})
		r.journal.forgive("could not decode headers")
		var handled atomic.Int32
		s, err := Serve(r.nc, handle(func(context.Context, bridge.Request) (bridge.Response, error) {
			handled.Add(1)
			return bridge.Response{Payload: []byte("{}")}, nil
		}), ServiceConfig{Subjects: r.subjects, Version: "1.0.0", Log: r.journal.log()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		c := rawLogin(t, r.server.URL(), name)
		for _, block := range []string{"NATS/1.0\r\nnocolon\r\n\r\n", "NATS/1.0\r\nFleets-Timeout 5s\r\nX: y\r\n\r\n", "NATS/2.0\r\nX: y\r\n\r\n", "nonsense\r\n\r\n", "\r\n\r\n"} {
			for _, subject := range []string{"fleets.req.pump.jobs.get", "fleets.req.pump.shadow.get", "fleets.req.pump.events.x"} {
				if header, answer := c.request(name, subject, block, "{}"); !strings.Contains(header, "Nats-Service-Error-Code: 400") {
					t.Errorf("%q, %q on %s: %q %q", name, block, subject, header, answer)
				}
			}
		}
		if header, answer := c.request(name, "fleets.req.pump.jobs.get", "", "{}"); answer != "{}" {
			t.Errorf("without headers: %q %q", header, answer)
		}
		if handled.Load() != 1 {
			t.Errorf("%d are carried out", handled.Load())
		}
	}
}
