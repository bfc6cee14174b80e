package gateway_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

// The traps of sharing one identity among many programs, as far as they show from outside and have no
// test of their own elsewhere; docs/traps.md lists where each is tested.

// T2: No Local hides the Thing's own reports, never the cloud's push on the same topic.
func TestT02NoLocalHidesOnlyOurOwn(t *testing.T) {
	t.Parallel()
	s := open(t)
	update := s.subscribe("fleets.down.pump-07.shadow.update")
	s.publish("fleets.up.pump-07.shadow.update", `{"state":{"reported":{"rpm":1}}}`)
	s.arrives("$emqx/things/pump-07/shadow/update", "")
	if _, err := s.sim.PatchDesired("pump-07", []byte(`{"rpm":2}`)); err != nil {
		t.Fatal(err)
	}
	if m := s.next(update); !gjson.GetBytes(m.Data, "state.desired").Exists() {
		t.Errorf("the first that came is %s", m.Data)
	}
}

// T11: updates of one job go one at a time, so versions can't interleave on the wire.
func TestT11UpdatesOfOneJobGoOneAtATime(t *testing.T) {
	t.Parallel()
	s := open(t, cloud(func(o *fleetsim.Options) {
		o.Misbehaviour = fleetsim.Misbehaviour{Seed: 2, LateAnswers: 5 * time.Millisecond, DropToken: 1}
	}))
	job, err := s.sim.CreateJob(fleetsim.Job{Things: []string{"pump-07"}, Document: []byte(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	if answer, code := s.request("fleets.req.pump-07.jobs.start-next", ""); code != "" {
		t.Fatalf("%s %s", code, answer.Data)
	}
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			m, err := s.nc.RequestWithContext(t.Context(), "fleets.req.pump-07.jobs."+job.ID+".update", fmt.Appendf(nil, `{"status":"IN_PROGRESS","clientToken":"%d"}`, i))
			if err != nil || m.Header.Get("Nats-Service-Error-Code") != "" || gjson.GetBytes(m.Data, "clientToken").String() != fmt.Sprint(i) {
				t.Errorf("caller %d: %s %v", i, m.Data, err)
			}
		})
	}
	wg.Wait()
}

// T15 and T27: what the broker queues while the gateway is away arrives, in order, in a burst.
func TestT15T27BurstAfterReconnect(t *testing.T) {
	t.Parallel()
	const n = 900 // brokers keep 1000 by default
	s := open(t, expect("connection lost", "cannot connect"))
	s.link.Cut()
	s.status("pump-07", func(v string) bool { return !gjson.Get(v, "connected").Bool() })
	delta := s.subscribe("fleets.down.pump-07.shadow.update.delta")
	if _, err := s.sim.PatchDesired("pump-07", []byte(`{"a":0}`)); err != nil { // moves the version that the GET will say
		t.Fatal(err)
	}
	for i := range n {
		s.down("$emqx/things/pump-07/shadow/update/delta", fmt.Sprintf(`{"version":%d,"state":{"n":%d}}`, 100+i, i), fleetsim.PublishOptions{})
	}
	s.link.Restore()
	next := 0
	for next < n {
		if v := gjson.GetBytes(s.next(delta).Data, "state.n"); v.Exists() {
			if int(v.Int()) != next {
				t.Fatalf("delta %d came when %d was due", v.Int(), next)
			}
			next++
		}
	}
	s.status("pump-07", func(v string) bool { return gjson.Get(v, "connected").Bool() && gjson.Get(v, "sessionPresent").Bool() })
}

// T17: a PUBACK is no answer.
func TestT17NoAnswer(t *testing.T) {
	t.Parallel()
	s := open(t, cloud(func(o *fleetsim.Options) { o.Misbehaviour = fleetsim.Misbehaviour{Seed: 3, DropAnswers: 1} }),
		edit(func(c *gateway.Config) { c.Requests.Timeout = 2 * patience })) // the caller's shorter one counts
	if answer, code := s.request("fleets.req.pump-07.jobs.get", "", "Fleets-Timeout", "300ms"); code != "504" || !strings.Contains(string(answer.Data), "300ms") {
		t.Errorf("%s %s", code, answer.Data)
	}
	if answer, code := s.request("fleets.req.pump-07.jobs.get", "", "Fleets-Timeout", "soon"); code != "400" {
		t.Errorf("%s %s", code, answer.Data)
	}
}

// T21 and T22: names and ids with everything that topics, subjects and URLs find special.
func TestT21T22OddNames(t *testing.T) {
	t.Parallel()
	const name, id = `.. %?&*>=ü"\ {t}`, `.. *>.%2F ü`
	s := open(t, things(name))
	token, idToken := "=2E=2E=20=25=3F=26=2A=3E=3D=C3=BC=22=5C=20=7Bt=7D", "=2E=2E=20=2A=3E=2E=252F=20=C3=BC"
	if _, code := s.request("fleets.req."+token+".shadow.get", ""); code != "" {
		t.Errorf("code %s", code)
	}
	got := make(chan *nats.Msg, 1)
	if _, err := s.nc.Subscribe("fleets.cmd."+token+".=2A", func(m *nats.Msg) { got <- m; _ = m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	raw := s.subscribe("fleets.down." + token + ".commands." + idToken + ".request")
	if _, err := s.sim.SendCommand(fleetsim.Command{Thing: name, Action: "*", ID: id, TTL: time.Minute}); err != nil {
		t.Fatal(err)
	}
	s.next(raw)
	if x, err := s.sim.WaitCommand(s.context(), id); err != nil || x.Status != "SUCCEEDED" {
		t.Errorf("%+v %v", x, err)
	}
	if m := <-got; m.Header.Get("Fleets-Execution") != ".. *>.%252F %C3%BC" { // as in a URL
		t.Errorf("%q", m.Header)
	}
	s.publish("fleets.up."+token+".events."+idToken, `{"eventType":".. *>.%2F ü","severity":"info","timestamp":1780000000005}`)
	s.arrives("$emqx/things/"+name+"/events/"+id, "")
}

// T30: two owners of a client id must not kick each other out in a loop. mosquitto 2.0.11 does not say
// that it was a takeover; there the pauses grow with each connection that lived short.
func TestT30SessionTakenOver(t *testing.T) {
	t.Parallel()
	const quick = 4                                     // connections before the pauses grow
	says := !strings.Contains(*brokerFlag, "mosquitto") // why it hangs up
	s := open(t, expect("session taken over", "connection lost", "jobs/get"))
	before := s.link.Accepted()
	other := open(t, withoutAPI(), edit(func(c *gateway.Config) { c.MQTT.Server = []string{s.sim.BrokerURL()} }), expect("connection lost", "taken over", "jobs/get"))
	v := s.status("pump-07", func(v string) bool { return !gjson.Get(v, "connected").Bool() })
	if says && !strings.Contains(v, "another client") {
		t.Error(v)
	}
	other.publish("fleets.up.pump-07.events.n", event(0))
	other.status("pump-07", func(v string) bool { return gjson.Get(v, "queued").Int() == 0 })
	n := s.link.Accepted() - before
	if says && n > 0 || n > quick {
		t.Errorf("it came back %d times at once", n)
	}
}

// T34: a storm of notifications is delivered and starts nothing by itself.
func TestT34NotifyStorm(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.arrives("$emqx/things/pump-07/jobs/get", "")
	sub := s.subscribe("fleets.down.pump-07.jobs.notify")
	for range 50 {
		s.down("$emqx/things/pump-07/jobs/notify", `{"jobs":{}}`, fleetsim.PublishOptions{})
	}
	for range 50 {
		s.next(sub)
	}
	questions := 0
	for _, p := range s.sim.Received() {
		if strings.HasSuffix(p.Topic, "/jobs/get") {
			questions++
		}
	}
	if questions != 1 {
		t.Errorf("%d questions, want the one after connecting", questions)
	}
}

// Fixture: GET answers 404: a clear message, and MQTT stays up.
func TestThingThatFleetsDoesNotKnow(t *testing.T) {
	t.Parallel()
	s := open(t, startCut(), expect("cannot connect", "shadow not fetched"))
	s.sim.SetHTTPFault(&fleetsim.HTTPFault{Status: 404})
	s.link.Restore()
	s.status("pump-07", func(v string) bool {
		return gjson.Get(v, "connected").Bool() && gjson.Get(v, "shadow").String() == "unknown" && strings.Contains(gjson.Get(v, "lastError").String(), "not registered")
	})
	s.publish("fleets.up.pump-07.events.n", event(0))
	s.inOrder(1)
}

// The cloud answers too late: the answer is for everybody, with the caller's token.
func TestLateAnswerComesDown(t *testing.T) {
	t.Parallel()
	s := open(t, cloud(func(o *fleetsim.Options) {
		o.Misbehaviour = fleetsim.Misbehaviour{Seed: 3, LateAnswers: time.Second}
	}))
	down := s.subscribe("fleets.down.pump-07.jobs.get.accepted")
	for range 20 {
		_, code := s.request("fleets.req.pump-07.jobs.get", `{"clientToken":"mine"}`, "Fleets-Timeout", "1ms")
		if code != "504" {
			continue // this once the cloud was quick
		}
		for {
			m, err := down.NextMsg(3 * time.Second)
			if err != nil {
				break // the time was over before the question had gone
			}
			if gjson.GetBytes(m.Data, "clientToken").String() == "mine" {
				return
			}
		}
	}
	t.Error("no answer came down")
}

// The asker has died when the cloud answers in time: the answer is for everybody, with the caller's token,
// and a lease that nobody knows of is not kept.
func TestAnswerToAProgramThatIsGone(t *testing.T) {
	t.Parallel()
	s := open(t)
	if _, err := s.sim.CreateJob(fleetsim.Job{Things: []string{"pump-07"}, ID: "j1", Document: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ question, answer string }{
		{"jobs.start-next", "jobs.start-next.accepted"}, {"jobs.get", "jobs.get.accepted"}, {"jobs.j1.get", "jobs.j1.get.accepted"}, {"jobs.j2.get", "jobs.j2.get.rejected"},
	} {
		down := s.subscribe("fleets.down.pump-07." + c.answer)
		m := &nats.Msg{Subject: "fleets.req.pump-07." + c.question, Reply: nats.NewInbox(), Header: nats.Header{"Fleets-Worker": {"gone"}}, Data: []byte(`{"clientToken":"mine"}`)}
		if err := s.nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
		for gjson.GetBytes(s.next(down).Data, "clientToken").String() != "mine" { // the bridge asks for itself, too
		}
	}
	if answer, code := s.request("fleets.req.pump-07.jobs.start-next", "", "Fleets-Worker", "b"); code != "" || gjson.GetBytes(answer.Data, "execution.jobId").String() != "j1" {
		t.Errorf("%s %s", code, answer.Data)
	}
}

// A worker that ends its job over the stored subject gives its lease back.
func TestRawFinalUpdateEndsTheLease(t *testing.T) {
	t.Parallel()
	s := open(t)
	if _, err := s.sim.CreateJob(fleetsim.Job{Things: []string{"pump-07"}, ID: "j1", Document: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	if answer, code := s.request("fleets.req.pump-07.jobs.start-next", "", "Fleets-Worker", "a"); code != "" {
		t.Fatalf("%s %s", code, answer.Data)
	}
	update := func(status string) {
		s.publish("fleets.up.pump-07.jobs.j1.update", `{"status":"`+status+`"}`)
		s.arrives("$emqx/things/pump-07/jobs/j1/update", `{"status":"`+status+`"}`)
	}
	start := func(worker, wantCode string) {
		t.Helper()
		if _, code := s.request("fleets.req.pump-07.jobs.start-next", "", "Fleets-Worker", worker); code != wantCode {
			t.Errorf("%s starts the next one: %q, want %q", worker, code, wantCode)
		}
	}
	update("IN_PROGRESS")
	start("b", "409")
	update("SUCCEEDED")
	start("b", "")
}

// Leases survive a restart.
func TestLeaseAcrossARestart(t *testing.T) {
	t.Parallel()
	s := open(t)
	if _, err := s.sim.CreateJob(fleetsim.Job{Things: []string{"pump-07"}, Document: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	if answer, code := s.request("fleets.req.pump-07.jobs.start-next", "", "Fleets-Worker", "a"); code != "" {
		t.Fatalf("%s %s", code, answer.Data)
	}
	s.restart()
	s.ready()
	if answer, code := s.request("fleets.req.pump-07.jobs.start-next", "", "Fleets-Worker", "b"); code != "409" {
		t.Errorf("%s %s", code, answer.Data)
	}
	if answer, code := s.request("fleets.req.pump-07.jobs.start-next", "", "Fleets-Worker", "a"); code != "" {
		t.Errorf("%s %s", code, answer.Data)
	}
}

// A stop under load leaves nothing behind: what was accepted is in the store, and goes on.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	const n = 400
	s := open(t)
	futures := make([]jetstream.PubAckFuture, n)
	for i := range futures {
		var err error
		if futures[i], err = s.js.PublishAsync("fleets.up.pump-07.events.n", []byte(event(i)), jetstream.WithStallWait(patience)); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			t.Fatal(err)
		}
	}
	s.restart()
	s.inOrder(n)
}

// A stop finishes what programs and the cloud wait for.
func TestStopFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	s := open(t, cloud(func(o *fleetsim.Options) {
		o.Misbehaviour = fleetsim.Misbehaviour{Seed: 3, LateAnswers: 600 * time.Millisecond}
	}))
	program, err := nats.Connect(s.gw.NATSURL()) // outlives the harness's own
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	begun, runs := make(chan struct{}), 0
	if _, err := program.Subscribe("fleets.cmd.pump-07.slow", func(m *nats.Msg) {
		runs++
		close(begun)
		time.AfterFunc(500*time.Millisecond, func() { _ = m.Respond(nil) })
	}); err != nil {
		t.Fatal(err)
	}
	if err := program.Flush(); err != nil {
		t.Fatal(err)
	}
	id, err := s.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "slow", TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan string, 1)
	go func() {
		m, err := program.RequestWithContext(s.context(), "fleets.req.pump-07.jobs.get", []byte(`{"clientToken":"mine"}`))
		if err != nil {
			answered <- err.Error()
			return
		}
		answered <- m.Header.Get("Nats-Service-Error-Code") + gjson.GetBytes(m.Data, "clientToken").String()
	}()
	<-begun
	s.waitQuestions(2) // the one after connecting, and the program's
	s.stop()
	if got := <-answered; got != "mine" {
		t.Errorf("the request was answered %q", got)
	}
	s.start()
	if x, err := s.sim.WaitCommand(s.context(), id); err != nil || x.Status != "SUCCEEDED" || runs != 1 {
		t.Errorf("%+v %v after %d runs", x, err, runs)
	}
}

// A handler that is at it while the bridge is started again is not called once more, and its reply counts.
func TestHandlerOutlivesTheBridge(t *testing.T) {
	t.Parallel()
	s := open(t, edit(func(c *gateway.Config) {
		c.Commands.HandlerWait = 20 * time.Second
		c.NATS.Embedded.Listen = fleetsim.Address(t) // where the program comes back to
	}))
	program, err := nats.Connect(s.gw.NATSURL(), nats.ReconnectWait(20*time.Millisecond), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	calls := make(chan *nats.Msg, 8)
	if _, err := program.ChanSubscribe("fleets.cmd.pump-07.slow", calls); err != nil {
		t.Fatal(err)
	}
	if err := program.Flush(); err != nil {
		t.Fatal(err)
	}
	id, err := s.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "slow", TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	call := <-calls
	s.restart()
	if err := program.FlushWithContext(s.context()); err != nil { // it is back
		t.Fatal(err)
	}
	s.ready()
	if err := call.Respond([]byte(`{"status":"SUCCEEDED","result":{"call":1}}`)); err != nil {
		t.Fatal(err)
	}
	if x, err := s.sim.WaitCommand(s.context(), id); err != nil || x.Status != "SUCCEEDED" || gjson.GetBytes(x.Result, "call").Int() != 1 || len(calls) > 0 {
		t.Errorf("%+v %v after %d more calls", x, err, len(calls))
	}
}

// waitQuestions waits until so many jobs/get were sent.
func (s *site) waitQuestions(n int) {
	s.t.Helper()
	seen := map[string]bool{}
	if _, err := s.sim.WaitPublish(s.context(), func(p fleetsim.Publish) bool {
		if strings.HasSuffix(p.Topic, "/jobs/get") {
			seen[string(p.Payload)] = true
		}
		return len(seen) == n
	}); err != nil {
		s.t.Fatalf("%d of %d questions were sent", len(seen), n)
	}
}
