package gateway_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/tidwall/gjson"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

func TestReportsAreMergedAndSurviveARestart(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.publish("fleets.up.pump-07.shadow.update", `{"state":{"reported":{"temp":21.50}}}`)
	s.arrives("$emqx/things/pump-07/shadow/update", `{"state":{"reported":{"temp":21.50}}}`)
	s.publish("fleets.up.pump-07.shadow.update", `{"state":{"reported":{"hum":58}}}`)
	s.arrives("$emqx/things/pump-07/shadow/update", `{"state":{"reported":{"temp":21.50,"hum":58}}}`)
	s.restart()
	s.publish("fleets.up.pump-07.shadow.update", `{"state":{"reported":{"temp":null}}}`)
	s.arrives("$emqx/things/pump-07/shadow/update", `{"state":{"reported":{"temp":null,"hum":58}}}`)
	s.publish("fleets.up.pump-07.shadow.update", `{"state":{"reported":{"x":1}}}`)
	s.arrives("$emqx/things/pump-07/shadow/update", `{"state":{"reported":{"hum":58,"x":1}}}`)
	s.watch("FLEETS_SHADOW", "pump-07", func(doc string) bool { return gjson.Get(doc, "reported").Raw == `{"hum":58,"x":1}` })
}

func TestReportsAsSent(t *testing.T) {
	t.Parallel()
	s := open(t, edit(func(c *gateway.Config) { c.Shadow.Report = gateway.ReportAsSent }))
	for _, report := range []string{`{"state":{"reported":{"a":1}}}`, `{"state":{"reported":{"b":null}}}`} {
		s.publish("fleets.up.pump-07.shadow.update", report)
		s.arrives("$emqx/things/pump-07/shadow/update", report)
	}
}

// A desired change comes down as push and as delta; the device reports; the delta is gone.
func TestShadowRoundTrip(t *testing.T) {
	t.Parallel()
	s := open(t)
	push, delta := s.subscribe("fleets.down.pump-07.shadow.update"), s.subscribe("fleets.down.pump-07.shadow.update.delta")
	if _, err := s.sim.PatchDesired("pump-07", []byte(`{"rpm":15000000000000000001}`)); err != nil {
		t.Fatal(err)
	}
	if got := gjson.GetBytes(s.next(push).Data, "state.desired").Raw; got != `{"rpm":15000000000000000001}` {
		t.Error(got)
	}
	if got := gjson.GetBytes(s.next(delta).Data, "state").Raw; got != `{"rpm":15000000000000000001}` {
		t.Error(got)
	}
	s.watch("FLEETS_SHADOW", "pump-07", func(doc string) bool {
		return gjson.Get(doc, "desired").Raw == `{"rpm":15000000000000000001}` && gjson.Get(doc, "delta.rpm").Exists()
	})
	s.publish("fleets.up.pump-07.shadow.update", `{"state":{"reported":{"rpm":15000000000000000001}}}`)
	if _, err := s.sim.WaitReported(s.context(), "pump-07", func(r []byte) bool { return string(r) == `{"rpm":15000000000000000001}` }); err != nil {
		t.Fatal(err)
	}
	answer, code := s.request("fleets.req.pump-07.shadow.get", "")
	if code != "" || gjson.GetBytes(answer.Data, "reported.rpm").Raw != "15000000000000000001" || answer.Header.Get("Fleets-Stale") != "" {
		t.Errorf("%s %s %v", code, answer.Data, answer.Header)
	}
	s.sim.SetHTTPFault(&fleetsim.HTTPFault{Down: true})
	answer, code = s.request("fleets.req.pump-07.shadow.get", "")
	if code != "" || answer.Header.Get("Fleets-Stale") != "true" || gjson.GetBytes(answer.Data, "reported.rpm").Raw != "15000000000000000001" {
		t.Errorf("%s %s %v", code, answer.Data, answer.Header)
	}
}

// Desired state that was set while the gateway was away: GET, delta, then jobs/get, whose answer is
// for everybody.
func TestStartProcedure(t *testing.T) {
	t.Parallel()
	s := open(t, startCut(), expect("cannot connect"))
	if _, err := s.sim.PatchDesired("pump-07", []byte(`{"rpm":1500}`)); err != nil {
		t.Fatal(err)
	}
	delta, jobs := s.subscribe("fleets.down.pump-07.shadow.update.delta"), s.subscribe("fleets.down.pump-07.jobs.get.accepted")
	s.link.Restore()
	m := s.next(delta)
	if got := gjson.GetBytes(m.Data, "state").Raw; got != `{"rpm":1500}` || m.Header.Get("Fleets-Source") != "shadow-get" {
		t.Errorf("%s %v", m.Data, m.Header)
	}
	if m := s.next(jobs); !gjson.GetBytes(m.Data, "queuedJobs").Exists() {
		t.Errorf("%s", m.Data)
	}
	s.ready()
	s.stop()
	s.link.Cut()
	s.start() // the same version must not be delivered again
	again := s.subscribe("fleets.down.pump-07.>")
	s.link.Restore()
	for {
		m := s.next(again)
		if strings.HasSuffix(m.Subject, "delta") {
			t.Errorf("delivered again: %s", m.Data)
		}
		if strings.HasSuffix(m.Subject, "jobs.get.accepted") {
			break // it comes after the delta would have
		}
	}
}

func TestWithoutTheHTTPAPI(t *testing.T) {
	t.Parallel()
	s := open(t, withoutAPI())
	status := s.status("pump-07", func(v string) bool { return strings.Contains(v, `"connected":true`) })
	if gjson.Get(status, "shadow").String() != "unknown" {
		t.Error(status)
	}
	if _, code := s.request("fleets.req.pump-07.shadow.get", ""); code != "503" {
		t.Errorf("code %s, want 503", code)
	}
	s.down("$emqx/things/pump-07/shadow/update/delta", `{"version":3,"state":{"a":1}}`, fleetsim.PublishOptions{})
	s.watch("FLEETS_SHADOW", "pump-07", func(doc string) bool { return gjson.Get(doc, "version").Int() == 3 })
	if answer, code := s.request("fleets.req.pump-07.shadow.get", ""); code != "" || answer.Header.Get("Fleets-Stale") != "true" {
		t.Errorf("%s %s", code, answer.Data)
	}
}

// A whole job, by requests: list, start under a lease, conflict, progress, end.
func TestJobByRequests(t *testing.T) {
	t.Parallel()
	s := open(t)
	notify := s.subscribe("fleets.down.pump-07.jobs.notify")
	job, err := s.sim.CreateJob(fleetsim.Job{Things: []string{"pump-07"}, Document: []byte(`{"action":"flash","n":12345678901234567890}`)})
	if err != nil {
		t.Fatal(err)
	}
	s.next(notify)
	answer, code := s.request("fleets.req.pump-07.jobs.get", `{"clientToken":"mine"}`)
	if code != "" || gjson.GetBytes(answer.Data, "queuedJobs.0.jobId").String() != job.ID || gjson.GetBytes(answer.Data, "clientToken").String() != "mine" {
		t.Fatalf("%s %s", code, answer.Data)
	}
	answer, code = s.request("fleets.req.pump-07.jobs.start-next", "", "Fleets-Worker", "w1")
	if code != "" || gjson.GetBytes(answer.Data, "execution.jobDocument.n").Raw != "12345678901234567890" || gjson.GetBytes(answer.Data, "clientToken").Exists() {
		t.Fatalf("%s %s", code, answer.Data)
	}
	if answer, code := s.request("fleets.req.pump-07.jobs.start-next", "", "Fleets-Worker", "w2"); code != "409" || gjson.GetBytes(answer.Data, "code").Int() != 409 {
		t.Errorf("%s %s", code, answer.Data)
	}
	version := gjson.GetBytes(answer.Data, "execution.versionNumber").Int()
	update := "fleets.req.pump-07.jobs." + job.ID + ".update"
	if answer, code := s.request(update, fmt.Sprintf(`{"status":"IN_PROGRESS","expectedVersion":%d}`, version+7)); code != "409" {
		t.Errorf("wrong version: %s %s", code, answer.Data)
	}
	if answer, code := s.request(update, `{"status":"DONE"}`); code != "400" || gjson.GetBytes(answer.Data, "details.0.pointer").String() != "/status" {
		t.Errorf("bad status: %s %s", code, answer.Data)
	}
	if answer, code := s.request(update, `{"status":"SUCCEEDED"}`, "Fleets-Worker", "w1"); code != "" {
		t.Errorf("%s %s", code, answer.Data)
	}
	if _, err := s.sim.WaitExecution(s.context(), job.ID, "pump-07", fleetsim.Succeeded); err != nil {
		t.Error(err)
	}
	if answer, code := s.request(update, `{"status":"FAILED"}`); code != "502" {
		t.Errorf("after the end: %s %s", code, answer.Data)
	}
	if answer, code := s.request("fleets.req.pump-07.jobs.nosuch.get", ""); code != "502" {
		t.Errorf("unknown job: %s %s", code, answer.Data)
	}
}

// Concurrent callers with one token, against a cloud that is late and forgets tokens.
func TestManyCallersEachGetTheirAnswer(t *testing.T) {
	t.Parallel()
	s := open(t, cloud(func(o *fleetsim.Options) {
		o.Misbehaviour = fleetsim.Misbehaviour{Seed: 1, LateAnswers: 2 * time.Millisecond, DropToken: 0.5}
	}))
	var wg sync.WaitGroup
	var wrong atomic.Int32
	for i := range 24 {
		wg.Go(func() {
			m, err := s.nc.RequestWithContext(s.t.Context(), "fleets.req.pump-07.jobs.get", []byte(`{"clientToken":"req-1"}`))
			if err != nil || m.Header.Get("Nats-Service-Error-Code") != "" || gjson.GetBytes(m.Data, "clientToken").String() != "req-1" {
				wrong.Add(1)
				t.Logf("caller %d: %v %v", i, m, err)
			}
		})
	}
	wg.Wait()
	if wrong.Load() > 0 {
		t.Errorf("%d of 24 callers got a wrong answer", wrong.Load())
	}
}

func TestRequestsWhileOffline(t *testing.T) {
	t.Parallel()
	s := open(t, startCut(), expect("cannot connect", stray))
	if answer, code := s.request("fleets.req.pump-07.jobs.get", ""); code != "503" {
		t.Errorf("%s %s", code, answer.Data)
	}
	if answer, code := s.request("fleets.req.nobody.jobs.get", ""); code != "404" {
		t.Errorf("%s %s", code, answer.Data)
	}
	if _, err := s.js.Publish(s.context(), "fleets.up.nobody.events.x", nil); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("a publish for an unknown Thing: %v", err)
	}
	answer, code := s.request("fleets.req.pump-07.events.boot", `{"eventType":"boot","severity":"info"}`)
	if code != "" || gjson.GetBytes(answer.Data, "stream").String() != "FLEETS_UP_TELEMETRY" || gjson.GetBytes(answer.Data, "seq").Int() == 0 {
		t.Errorf("%s %s", code, answer.Data)
	}
	if answer, code := s.request("fleets.req.pump-07.events.boot", `{"eventType":"boot","severity":"warning"}`); code != "400" {
		t.Errorf("%s %s", code, answer.Data)
	}
	plain, err := s.nc.RequestWithContext(s.context(), "fleets.up.pump-07.events.boot", []byte(`{"eventType":"boot","severity":"warn"}`))
	if err != nil || gjson.GetBytes(plain.Data, "seq").Int() == 0 {
		t.Errorf("a plain request is answered with a PubAck: %v %v", plain, err)
	}
	s.link.Restore()
	events, err := s.sim.WaitEvents(s.context(), "pump-07", 2)
	slices.SortFunc(events, func(a, b fleetsim.Event) int { return cmp.Compare(a.Timestamp, b.Timestamp) }) // Artemis may hand the first two of a topic on the other way round; others judge the order
	if err != nil || events[0].Severity != "info" || events[1].Severity != "warn" {
		t.Errorf("%v %v", events, err)
	}
	if received := s.sim.Received(); len(received) > 0 {
		for _, p := range received {
			if strings.Contains(p.Topic, "events") && !gjson.GetBytes(p.Payload, "timestamp").Exists() {
				t.Errorf("no timestamp: %s", p.Payload)
			}
		}
	}
}

func TestCommandServedByAProgram(t *testing.T) {
	t.Parallel()
	s := open(t)
	var got *nats.Msg
	sub, err := s.nc.QueueSubscribe("fleets.cmd.pump-07.purge", "workers", func(m *nats.Msg) {
		got = m
		_ = m.Respond([]byte(`{ "status":"SUCCEEDED","result":{"n":12345678901234567890}}`))
	})
	if err != nil || s.nc.Flush() != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	id, err := s.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "purge", Params: []byte(`{"sec":10}`), TTL: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	x, err := s.sim.WaitCommand(s.context(), id)
	if err != nil || x.Status != "SUCCEEDED" || string(x.Result) != `{"n":12345678901234567890}` {
		t.Fatalf("%+v %v", x, err)
	}
	if got.Header.Get("Fleets-Execution") != id {
		t.Error(got.Header)
	}
	if at, err := time.Parse(time.RFC3339, got.Header.Get("Fleets-Deadline")); err != nil || time.Until(at) > 31*time.Second {
		t.Errorf("deadline %q: %v", got.Header.Get("Fleets-Deadline"), err)
	}
	// Redelivered, before and after a restart: no second run, no second response.
	for range 2 {
		if err := s.sim.RepeatCommand(id); err != nil {
			t.Fatal(err)
		}
		s.request("fleets.req.pump-07.jobs.get", "") // comes back behind the redelivery
		s.restart()
		s.ready()
	}
	if x, _ := s.sim.Command(id); len(x.Responses) != 1 {
		t.Errorf("%d responses", len(x.Responses))
	}
}

func TestCommandServedByANATSService(t *testing.T) {
	t.Parallel()
	s := open(t)
	srv, err := micro.AddService(s.nc, micro.Config{Name: "valve", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = srv.Stop() }()
	if err := srv.AddEndpoint("open", micro.HandlerFunc(func(r micro.Request) { _ = r.Error("17", "pump locked", nil) }),
		micro.WithEndpointSubject("fleets.cmd.pump-07.open")); err != nil {
		t.Fatal(err)
	}
	if err := s.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	id, err := s.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "open", TTL: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if x, err := s.sim.WaitCommand(s.context(), id); err != nil || x.Status != "FAILED" || string(x.Result) != `{"error":"pump locked","code":17}` {
		t.Errorf("%+v %v", x, err)
	}
}

func TestCommandNobodyServes(t *testing.T) {
	t.Parallel()
	s := open(t, edit(func(c *gateway.Config) { c.Commands.HandlerWait = 50 * time.Millisecond }))
	raw := s.subscribe("fleets.down.pump-07.commands.*.request")
	id, err := s.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "dance", TTL: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if m := s.next(raw); m.Subject != "fleets.down.pump-07.commands."+id+".request" {
		t.Error(m.Subject)
	}
	if x, err := s.sim.WaitCommand(s.context(), id); err != nil || x.Status != "REJECTED" || string(x.Result) != `{"error":"no handler for dance"}` {
		t.Errorf("%+v %v", x, err)
	}
}

func TestCommandAnsweredRaw(t *testing.T) {
	t.Parallel()
	s := open(t, edit(func(c *gateway.Config) { c.Commands.NoHandler = gateway.NoHandlerWait }))
	raw := s.subscribe("fleets.down.pump-07.commands.*.request")
	id, err := s.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "dance", TTL: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	s.next(raw)
	for range 3 {
		s.publish("fleets.up.pump-07.commands."+id+".response", `{"status":"CANCELED"}`)
	}
	if x, err := s.sim.WaitCommand(s.context(), id); err != nil || x.Status != "CANCELED" {
		t.Errorf("%+v %v", x, err)
	}
	s.publish("fleets.up.pump-07.commands.later.response", `{"status":"FAILED"}`)
	s.arrives("$emqx/commands/things/pump-07/executions/later/response", "")
	if x, _ := s.sim.Command(id); len(x.Responses) != 1 {
		t.Errorf("%d responses, want 1", len(x.Responses))
	}
}

// A command whose handler is cut off by a restart of the bridge runs again and is answered once.
func TestCommandAcrossARestart(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := open(t)
	started := make(chan struct{}, 1)
	if _, err := s.nc.Subscribe("fleets.cmd.pump-07.slow", func(*nats.Msg) { started <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	if err := s.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	id, err := s.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "slow", TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	<-started
	s.restart()
	if _, err := s.nc.Subscribe("fleets.cmd.pump-07.slow", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	if x, err := s.sim.WaitCommand(s.context(), id); err != nil || x.Status != "SUCCEEDED" {
		t.Errorf("%+v %v", x, err)
	}
}

func TestServicesAreDiscoverable(t *testing.T) {
	t.Parallel()
	s := open(t)
	m, err := s.nc.RequestWithContext(s.context(), "$SRV.INFO.fleetbridge", nil)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(m.Data, &info); err != nil {
		t.Fatal(err)
	}
	subjects := map[string]bool{}
	for _, e := range info.Endpoints {
		subjects[e.Subject] = true
	}
	for _, want := range []string{"shadow.get", "shadow.update", "events.*", "commands.*.response", "jobs.get", "jobs.start-next", "jobs.*.get", "jobs.*.update"} {
		if !subjects["fleets.req.*."+want] {
			t.Errorf("no endpoint for %s", want)
		}
	}
	if _, err := s.nc.RequestWithContext(s.context(), "$SRV.STATS.fleetbridge", nil); err != nil {
		t.Error(err)
	}
}

func TestTraceContextPassesBothWays(t *testing.T) {
	t.Parallel()
	s := open(t)
	const parent, state = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1"
	m := nats.NewMsg("fleets.up.pump-07.events.boot")
	m.Data = []byte(`{"eventType":"boot","severity":"info","timestamp":1780000000001}`)
	m.Header.Set("traceparent", parent)
	m.Header.Set("tracestate", state)
	if _, err := s.js.PublishMsg(s.context(), m); err != nil {
		t.Fatal(err)
	}
	user := map[string]string{}
	for _, p := range s.arrives("$emqx/things/pump-07/events/boot", "").User {
		user[p.Key] = p.Value
	}
	if user["traceparent"] != parent || user["tracestate"] != state {
		t.Errorf("upwards: %v", user)
	}
	sub := s.subscribe("fleets.down.pump-07.jobs.notify")
	s.down("$emqx/things/pump-07/jobs/notify", `{}`, fleetsim.PublishOptions{User: []fleetsim.UserProperty{{Key: "traceparent", Value: parent}, {Key: "tracestate", Value: state}}})
	got := s.next(sub)
	if got.Header.Get("traceparent") != parent || got.Header.Get("tracestate") != state {
		t.Errorf("downwards: %v", got.Header)
	}
}
