package gateway_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local"
	"fleetbridge/fleetsim"
)

// event is a numbered event.
func event(n int) string {
	return fmt.Sprintf(`{"eventType":"n","severity":"info","data":{"n":%d},"timestamp":%d}`, n, 1780000000000+n)
}

// inOrder waits until the cloud has n numbered events and checks that none is missing and that the
// first copies came in order; with a real broker, which may mix them, that they were sent in order.
func (s *site) inOrder(n int) {
	s.t.Helper()
	s.arrives("$emqx/things/pump-07/events/n", event(n-1))
	var came [][]byte
	if s.tap != nil {
		came = s.tap.Published("$emqx/things/pump-07/events/n")
	} else {
		for _, p := range s.sim.Received() {
			if p.Topic == "$emqx/things/pump-07/events/n" {
				came = append(came, p.Payload)
			}
		}
	}
	next := 0
	for _, payload := range came {
		switch got := int(gjson.GetBytes(payload, "data.n").Int()); {
		case got == next:
			next++
		case got > next:
			s.t.Fatalf("event %d came when %d was due", got, next)
		}
	}
	if next != n {
		s.t.Errorf("%d events in order, want %d", next, n)
	}
}

func TestBacklogAcrossARestartArrivesInOrder(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := open(t, startCut(), expect("cannot connect"))
	for n := range 100 {
		s.publish("fleets.up.pump-07.events.n", event(n))
	}
	s.restart()
	for n := 100; n < 200; n++ {
		s.publish("fleets.up.pump-07.events.n", event(n))
	}
	s.status("pump-07", func(v string) bool { return gjson.Get(v, "queued").Int() == 200 })
	s.link.Restore()
	s.inOrder(200)
	s.status("pump-07", func(v string) bool { return gjson.Get(v, "queued").Int() == 0 })
}

func TestLinkThatBreaksAgainAndAgain(t *testing.T) {
	t.Parallel()
	s := open(t, expect("connection lost", "cannot connect"))
	for n := range 300 {
		if n%60 == 30 {
			s.link.Drop()
		}
		s.publish("fleets.up.pump-07.events.n", event(n))
	}
	s.inOrder(300)
}

func TestPoisonInTheBacklog(t *testing.T) {
	t.Parallel()
	s := open(t, startCut(), expect("cannot connect"))
	for n := range 50 {
		s.publish("fleets.up.pump-07.events.n", event(n))
		s.publish("fleets.up.pump-07.events.n", `{"poison":`)
	}
	s.link.Restore()
	s.inOrder(50)
	m := s.letter("fleets.dead.up.pump-07.events.n")
	if string(m.Data()) != `{"poison":` || m.Headers().Get("Fleets-Error-Code") != "json" || m.Headers().Get("Fleets-Error") == "" {
		t.Errorf("%s %v", m.Data(), m.Headers())
	}
	s.metrics( // accepted = delivered + duplicate + dead + queued
		"fleetbridge_accepted_messages_total 100",
		`fleetbridge_dead_letters_total{code="json",direction="up"} 50`,
		`fleetbridge_messages_total{channel="event",direction="up",outcome="delivered"} 50`,
		`fleetbridge_messages_total{channel="event",direction="up",outcome="dead"} 50`,
		`fleetbridge_queued_messages{thing="pump-07"} 0`)
}

// metrics scrapes until every line is there.
func (s *site) metrics(want ...string) {
	s.t.Helper()
	missing := ""
	body := s.page("/metrics", func(body string) bool {
		missing = ""
		for _, line := range want {
			if !strings.Contains(body, line+"\n") {
				missing = line
			}
		}
		return missing == ""
	})
	if missing != "" {
		s.t.Fatalf("%s is not among\n%s", missing, grep(body, "fleetbridge"))
	}
}

// page asks for a page of the bridge until it matches, and returns it; the last one when the time is over. Pages
// and FLEETS_STATUS don't change in one moment.
func (s *site) page(path string, match func(string) bool) string {
	s.t.Helper()
	for ctx, pause := s.context(), shortPause; ; {
		page := s.get(path)
		if match(page) {
			return page
		}
		select {
		case <-ctx.Done():
			return page
		case <-time.After(pause): // a page has to be asked for again
			pause = longer(pause)
		}
	}
}

// shows waits until a page has this code and says all of it.
func (s *site) shows(path string, code int, parts ...string) {
	s.t.Helper()
	missing := ""
	page := s.page(path, func(page string) bool {
		missing = ""
		for _, part := range append([]string{fmt.Sprint(code, " ")}, parts...) {
			if !strings.Contains(page, part) {
				missing = part
			}
		}
		return missing == ""
	})
	if missing != "" {
		s.t.Errorf("%s does not say %q: %.2000s", path, missing, page)
	}
}

// omits waits until a page no longer says it.
func (s *site) omits(path, part string) {
	s.t.Helper()
	if page := s.page(path, func(page string) bool { return !strings.Contains(page, part) }); strings.Contains(page, part) {
		s.t.Errorf("%s still says %q: %s", path, part, grep(page, part))
	}
}

func grep(text, part string) string {
	var out []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) && !strings.HasPrefix(line, "#") && !strings.HasSuffix(line, " 0\n") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// get fetches a page of the bridge's HTTP listener.
func (s *site) get(path string) string {
	s.t.Helper()
	r, err := http.Get("http://" + s.gw.HTTPAddr() + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", r.StatusCode, body)
}

func TestFullStreamRefusesAndRecovers(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := open(t, startCut(), expect("cannot connect", "the store does not work"), edit(func(c *gateway.Config) { c.NATS.Up.MaxBytes = 16 << 10 }))
	stored := 0
	var refused error
	for n := 0; refused == nil && n < 10000; n++ {
		if _, refused = s.js.Publish(s.context(), "fleets.up.pump-07.events.n", []byte(event(n))); refused == nil {
			stored++
		}
	}
	if refused == nil || !strings.Contains(refused.Error(), "maximum bytes exceeded") {
		t.Fatalf("after %d events: %v", stored, refused)
	}
	if answer, code := s.request("fleets.req.pump-07.events.n", event(0)); code != "503" {
		t.Errorf("%s %s", code, answer.Data)
	}
	s.status("pump-07", func(v string) bool { return strings.Contains(gjson.Get(v, "lastError").String(), "is full") })
	s.shows("/readyz", 503, `"part":"store"`, "nats.up.max_bytes")
	s.shows("/metrics", 200, "fleetbridge_store_writable 0")
	s.publish("fleets.up.pump-07.commands.e.response", `{"status":"SUCCEEDED"}`) // control has a stream of its own
	s.link.Restore()
	s.inOrder(stored)
	for ctx, again := s.context(), true; again; { // there is room as soon as the stream has forgotten what is delivered
		_, err := s.js.Publish(ctx, "fleets.up.pump-07.events.n", []byte(event(stored)))
		if again = err != nil; again && !strings.Contains(err.Error(), "maximum bytes exceeded") {
			t.Fatal(err)
		}
	}
	s.inOrder(stored + 1)
	s.status("pump-07", func(v string) bool { return gjson.Get(v, "lastError").String() == "" })
	s.shows("/readyz", 200)
}

// A store that is lost while the bridge runs, as that of a container without a volume, ends the bridge with the
// reason, and until then it is not ready; the next start works with what there is.
func TestStoreLost(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := open(t, expect("the store does not work", "cannot store"))
	if err := s.js.DeleteStream(s.context(), "FLEETS_DOWN"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-s.ended:
		if !errors.Is(err, local.ErrStreamGone) || !strings.Contains(err.Error(), "FLEETS_DOWN") {
			t.Errorf("it ended with %v", err)
		}
	case <-s.context().Done():
		t.Fatalf("it goes on; %s", s.get("/readyz"))
	}
	s.ended <- nil
	s.restart()
	s.ready() // the simulator's broker may lose what comes while it hands the session over
	sub := s.subscribe("fleets.down.pump-07.jobs.notify")
	s.down("$emqx/things/pump-07/jobs/notify", `{}`, fleetsim.PublishOptions{})
	s.next(sub)
}

// Control never waits behind telemetry.
func TestControlOvertakesTelemetry(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := open(t, startCut(), expect("cannot connect"), edit(func(c *gateway.Config) { c.MQTT.MaxPublishRate = 20 }))
	for n := range 80 {
		s.publish("fleets.up.pump-07.events.n", event(n))
	}
	s.publish("fleets.up.pump-07.commands.e.response", `{"status":"SUCCEEDED"}`)
	s.link.Restore()
	s.arrives("$emqx/commands/things/pump-07/executions/e/response", "")
	if n := len(s.sim.Events("pump-07")); n > 40 {
		t.Errorf("%d of 80 events went first", n)
	}
}

func TestRefusedByTheBroker(t *testing.T) {
	t.Parallel()
	simOnly(t)
	s := open(t, expect("messages wait")) // until the other one shows that the broker takes what is not secret
	s.sim.Broker().DenyPublish("$emqx/things/+/events/secret", 0x87)
	s.publish("fleets.up.pump-07.events.secret", `{"eventType":"secret","severity":"info","timestamp":1780000000001}`)
	s.publish("fleets.up.pump-07.events.n", event(0))
	s.inOrder(1)
	if m := s.letter("fleets.dead.up.pump-07.events.secret"); m.Headers().Get("Fleets-Error-Code") != "refused" || !strings.Contains(m.Headers().Get("Fleets-Error"), "0x87") {
		t.Error(m.Headers())
	}
}

// Fixture: SUBACK 0x87 on one filter: start degraded, named in the status.
func TestRefusedSubscription(t *testing.T) {
	t.Parallel()
	simOnly(t)
	s := open(t, startCut(), expect("cannot connect", "refused"))
	s.sim.Broker().DenySubscribe("$emqx/things/pump-07/jobs/notify", 0x87)
	s.link.Restore()
	s.status("pump-07", func(v string) bool {
		return gjson.Get(v, "connected").Bool() && !gjson.Get(v, "subscribed").Bool() && strings.Contains(v, "jobs/notify")
	})
	s.shows("/readyz", 503, "pump-07", "jobs/notify")
	s.shows("/healthz", 200)
	sub := s.subscribe("fleets.down.pump-07.jobs.notify-next")
	s.down("$emqx/things/pump-07/jobs/notify-next", `{}`, fleetsim.PublishOptions{})
	s.next(sub) // what was granted flows
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	s := open(t, expect("connection lost", "cannot connect"))
	s.shows("/readyz", 200, `"ready":true`)
	s.link.Cut()
	s.status("pump-07", func(v string) bool {
		return !gjson.Get(v, "connected").Bool() && gjson.Get(v, "lastError").String() != ""
	})
	s.shows("/readyz", 503, "not connected")
	s.shows("/metrics", 200, `fleetbridge_mqtt_connected{thing="pump-07"} 0`)
	s.link.Restore()
	s.ready()
	s.shows("/metrics", 200, `fleetbridge_mqtt_connected{thing="pump-07"} 1`)
}

func TestCompactSubscriptions(t *testing.T) {
	t.Parallel()
	s := open(t, edit(func(c *gateway.Config) { c.MQTT.Subscriptions = gateway.SubscriptionsCompact }))
	all := s.subscribe("fleets.down.pump-07.>")
	s.down("$emqx/things/pump-07/jobs/odd/accepted", `{}`, fleetsim.PublishOptions{}) // matches a wide filter, is no channel
	s.down("$emqx/things/pump-07/jobs/j/update/accepted", `{"a":1}`, fleetsim.PublishOptions{})
	s.publish("fleets.up.pump-07.shadow.update", `{"state":{"reported":{"a":1}}}`) // its echo must not come down
	s.arrives("$emqx/things/pump-07/shadow/update", "")
	s.down("$emqx/things/pump-07/jobs/notify", `{}`, fleetsim.PublishOptions{})
	for {
		m := s.next(all)
		if strings.HasSuffix(m.Subject, "shadow.update") || strings.Contains(m.Subject, "odd") {
			t.Errorf("%s %s came down", m.Subject, m.Data)
		}
		if strings.HasSuffix(m.Subject, "notify") {
			break
		}
	}
	if m := s.letter("fleets.dead.down.pump-07.>"); m.Headers().Get("Fleets-Error-Code") != "unexpected" {
		t.Error(m.Headers())
	}
}

// Traps T1, T3, T20, T26 and the guard, at the broker.
func TestWhatMustNotComeDown(t *testing.T) {
	t.Parallel()
	s := open(t)
	all := s.subscribe("fleets.down.pump-07.>")
	update := "$emqx/things/pump-07/shadow/update"
	s.down(update, `{"state":{"reported":{"a":1}},"clientToken":"another client"}`, fleetsim.PublishOptions{})
	s.down(update+"/delta", `{"version":7,"version":8,"state":{"a":1}}`, fleetsim.PublishOptions{})
	s.down(update+"/delta", `not JSON`, fleetsim.PublishOptions{})
	s.down("$emqx/things/pump-07/jobs/notify", `{}`, fleetsim.PublishOptions{})
	for {
		m := s.next(all)
		if strings.HasSuffix(m.Subject, "notify") {
			break
		}
		if strings.Contains(m.Subject, "shadow") {
			t.Errorf("%s %s came down", m.Subject, m.Data)
		}
	}
	c, err := s.js.OrderedConsumer(s.context(), "FLEETS_DEAD", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"fleets.dead.down.pump-07.shadow.update.delta"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if m, err := c.Next(jetstream.FetchMaxWait(patience)); err != nil || m.Headers().Get("Fleets-Error-Code") != "json" {
			t.Errorf("%v %v", m, err)
		}
	}
}

// The broker's memory of a Thing (T20): a retained request must not run at each subscribe.
func TestT20RetainedRequest(t *testing.T) {
	t.Parallel()
	s := open(t, startCut(), expect("cannot connect"))
	if _, err := s.nc.Subscribe("fleets.cmd.pump-07.purge", func(m *nats.Msg) { t.Error("it ran"); _ = m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	s.down("$emqx/commands/things/pump-07/executions/old/request", `{"action":"purge"}`, fleetsim.PublishOptions{Retain: true})
	all := s.subscribe("fleets.down.pump-07.>")
	s.link.Restore()
	for {
		m := s.next(all)
		if strings.Contains(m.Subject, "commands") {
			t.Errorf("%s came down", m.Subject)
		}
		if strings.HasSuffix(m.Subject, "jobs.get.accepted") {
			break
		}
	}
}

// Trap T18: one Thing's traffic is never another's.
func TestT18ManyThings(t *testing.T) {
	t.Parallel()
	names := make([]string, 40)
	for i := range names {
		names[i] = fmt.Sprintf("thing %d.ü", i)
	}
	s := open(t, things(names...))
	for i, name := range names {
		token := fmt.Sprintf("thing=20%d=2E=C3=BC", i)
		s.publish("fleets.up."+token+".events.n", event(i))
		if p := s.arrives("$emqx/things/"+name+"/events/n", ""); string(p.Payload) != event(i) || p.ClientID != "" && p.ClientID != name {
			t.Errorf("%s: %s", name, p.Payload)
		}
	}
}

func TestTLSAndWebSocket(t *testing.T) {
	t.Parallel()
	certificate, err := fleetsim.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"mqtts", "ws"} {
		t.Run(scheme, func(t *testing.T) {
			simOnly(t)
			sim := fleetsim.Start(t, fleetsim.Options{Things: []string{"pump-07"}, Embedded: fleetsim.BrokerOptions{TLS: certificate, WebSocket: true}})
			url := sim.Broker().TLSURL()
			if scheme == "ws" {
				url = sim.Broker().WebSocketURL()
			}
			ca := t.TempDir() + "/ca.pem"
			writeFile(t, ca, certificate.PEM)
			s := open(t, withoutAPI(), edit(func(c *gateway.Config) {
				c.MQTT.Server = []string{url}
				c.MQTT.TLS = gateway.TLS{CAFile: ca}
			}))
			s.sim = sim
			s.publish("fleets.up.pump-07.events.n", event(0))
			s.inOrder(1)
		})
	}
}

// Any NATS server with JetStream will do.
func TestExternalNATS(t *testing.T) {
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	s := open(t, edit(func(c *gateway.Config) {
		c.NATS.URL = gateway.NATSURL(ns.ClientURL())
		c.NATS.Prefix = "site-1.fleets"
	}), statusBucket("SITE-1_FLEETS_STATUS"))
	s.publish("site-1.fleets.up.pump-07.events.n", event(0))
	s.inOrder(1)
	sub := s.subscribe("site-1.fleets.down.pump-07.jobs.notify")
	s.down("$emqx/things/pump-07/jobs/notify", `{}`, fleetsim.PublishOptions{})
	s.next(sub)
	if answer, code := s.request("site-1.fleets.req.pump-07.jobs.get", ""); code != "" {
		t.Errorf("%s %s", code, answer.Data)
	}
	s.restart()
	s.publish("site-1.fleets.up.pump-07.events.n", event(1))
	s.inOrder(2)
}

// The happy path logs no warning, under load in both directions; the log of the harness fails the test
// at the first.
func TestLoadWithoutAWarning(t *testing.T) {
	const n = 600
	s := open(t)
	delta := s.subscribe("fleets.down.pump-07.shadow.update.delta")
	if err := delta.SetPendingLimits(-1, -1); err != nil {
		t.Fatal(err)
	}
	go func() {
		for i := range n {
			if t.Context().Err() != nil {
				return
			}
			if err := s.sim.Publish("$emqx/things/pump-07/shadow/update/delta", fmt.Appendf(nil, `{"version":%d,"state":{"n":%d}}`, 1000+i, i), fleetsim.PublishOptions{}); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	futures := make([]jetstream.PubAckFuture, n)
	var err error
	for i := range n {
		if futures[i], err = s.js.PublishAsync("fleets.up.pump-07.events.n", []byte(event(i)), jetstream.WithStallWait(patience)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		if got := gjson.GetBytes(s.next(delta).Data, "state.n").Int(); got != int64(i) {
			t.Fatalf("delta %d came when %d was due", got, i)
		}
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			t.Fatal(err)
		case <-s.context().Done():
			t.Fatal("no PubAck")
		}
	}
	s.inOrder(n)
}
