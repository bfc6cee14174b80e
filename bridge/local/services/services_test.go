package services

import (
	"context"
	"encoding/json"
	"errors"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"
	"log/slog"
	"reflect"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

type handle func(ctx context.Context, r bridge.Request) (bridge.Response, error)

func (h handle) Handle(ctx context.Context, r bridge.Request) (bridge.Response, error) {
	return h(ctx, r)
}

// patience is how long a test waits for what should happen at once.
const patience = 30 * time.Second

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func subjects(t *testing.T) mapping.Subjects {
	s, err := mapping.NewSubjects("fleets")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newServer(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	return s
}

func connect(t *testing.T, s *server.Server) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func served(t *testing.T, slots int, h handle) *nats.Conn {
	t.Helper()
	server := newServer(t)
	nc := connect(t, server)
	s := &Service{nc: nc, answers: wire.NewAnswers(nc, slog.New(slog.DiscardHandler)), subjects: subjects(t), handler: h, slots: flow.Quota{Limit: slots}}
	if err := s.start("v1.2.3"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return connect(t, server)
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
	nc := served(t, 8, func(_ context.Context, r bridge.Request) (bridge.Response, error) {
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
	nc := served(t, 8, func(context.Context, bridge.Request) (bridge.Response, error) {
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
	nc := served(t, 4, func(ctx context.Context, r bridge.Request) (bridge.Response, error) {
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
	server := newServer(t)
	started := make(chan struct{})
	s, err := Serve(connect(t, server), handle(func(ctx context.Context, _ bridge.Request) (bridge.Response, error) {
		close(started)
		<-ctx.Done()
		return bridge.Response{}, &bridge.RequestError{Code: 503, Message: "stopping"}
	}), Config{Subjects: subjects(t), Version: "dev", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	nc := connect(t, server)
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
	nc := served(t, 8, func(context.Context, bridge.Request) (bridge.Response, error) { return bridge.Response{}, nil })
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
	nc := served(t, 8, func(context.Context, bridge.Request) (bridge.Response, error) { return bridge.Response{}, nil })
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
	counted := func() bool { // behind its answer
		m, err := nc.Request("$SRV.STATS.fleetbridge", nil, patience)
		if err != nil {
			t.Fatal(err)
		}
		var stats micro.Stats
		if err := json.Unmarshal(m.Data, &stats); err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(stats.Endpoints, func(e *micro.EndpointStats) bool { return e.Name == "jobs-get" && e.NumRequests == 1 })
	}
	for deadline := time.Now().Add(patience); !counted(); {
		if time.Now().After(deadline) {
			t.Fatal("the request is not counted")
		}
	}
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
	server := newServer(t)
	bridges, nc := connect(t, server), connect(t, server)
	call := func(ctx context.Context, c bridge.Call) (bridge.Reply, error) {
		l, err := NewHandlers(bridges, subjects(t), server, nil).Listen(c.Thing, nuid.Next())
		if err != nil {
			return bridge.Reply{}, err
		}
		defer l.Close()
		return l.Call(ctx, c)
	}
	deadline := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	command := bridge.Call{Thing: "com.acme", Execution: "e/1", Action: "set temp", Payload: []byte(`{"n": 1.0}`), Deadline: deadline, Trace: bridge.Trace{Parent: "p", State: "s"}}
	if _, err := call(testContext(t), command); !errors.Is(err, bridge.ErrNoHandler) {
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
		reply, err := call(testContext(t), command)
		if err != nil || string(reply.Payload) != string(c.want.Payload) || reply.ErrorCode != c.want.ErrorCode || reply.Error != c.want.Error {
			t.Errorf("%+v, %v", reply, err)
		}
		m := <-got
		if string(m.Data) != `{"n": 1.0}` {
			t.Errorf("payload %s", m.Data)
		}
		want := nats.Header{"Fleets-Execution": {"e/1"}, "Fleets-Deadline": {"2026-01-02T03:04:05Z"}, "traceparent": {"p"}, "tracestate": {"s"}}
		if !reflect.DeepEqual(m.Header, want) {
			t.Errorf("headers %v", m.Header)
		}
	}
	answer.Store(nil)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-got; cancel() }()
	if _, err := call(ctx, command); !errors.Is(err, context.Canceled) {
		t.Errorf("no answer: %v", err)
	}
}

// TestAnswersLeaveNothing: whether an answer is heard is found out, and nothing is left of the question.
func TestAnswersLeaveNothing(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	nc, program := connect(t, server), connect(t, server)
	a, err := newAudience(nc, wire.NewAnswers(nc, slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	for i := range 20 {
		inbox, heard := program.NewInbox(), i%2 == 0
		if heard {
			if _, err := program.SubscribeSync(inbox); err != nil {
				t.Fatal(err)
			}
		}
		if err := program.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := a.hears(testContext(t), &nats.Msg{Subject: inbox, Header: nats.Header{}}); got != heard {
			t.Errorf("answer %d is heard: %v", i, got)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.unheard)+len(a.waiting) > 0 {
		t.Errorf("%v and %v are left", a.unheard, a.waiting)
	}
}
