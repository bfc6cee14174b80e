package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/tidwall/gjson"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local/letters"
	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// A trace crosses the bridge on every path. Each test looks at both ends: the user properties of the MQTT
// packets, and the headers of the NATS messages.

// span is one trace context.
type span struct{ parent, state string }

// spanOf makes one that no other has.
func spanOf(n string) span {
	return span{"00-" + strings.Repeat(n, 32) + "-" + strings.Repeat(n, 16) + "-01", "vendor=" + n}
}

func (s span) user() []fleetsim.UserProperty {
	return []fleetsim.UserProperty{{Key: "traceparent", Value: s.parent}, {Key: "tracestate", Value: s.state}}
}

func (s span) message(subject, payload string) *nats.Msg {
	m := nats.NewMsg(subject)
	m.Data = []byte(payload)
	m.Header.Set("traceparent", s.parent)
	m.Header.Set("tracestate", s.state)
	return m
}

// in compares with the headers of a NATS message.
func (s span) in(t *testing.T, where string, h nats.Header) {
	t.Helper()
	if got := (span{h.Get("traceparent"), h.Get("tracestate")}); got != s {
		t.Errorf("%s: %+v, want %+v", where, got, s)
	}
}

// on compares with the user properties of an MQTT packet.
func (s span) on(t *testing.T, where string, p fleetsim.Publish) {
	t.Helper()
	var got span
	for _, u := range p.User {
		switch u.Key {
		case "traceparent":
			got.parent = u.Value
		case "tracestate":
			got.state = u.Value
		}
	}
	if got != s {
		t.Errorf("%s: %+v, want %+v", where, got, s)
	}
}

func TestTraceOfEveryStoredMessage(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i, m := range []struct{ subject, payload, topic string }{
		{"up.pump-07.shadow.update", `{"state":{"reported":{"a":1}}}`, "$emqx/things/pump-07/shadow/update"}, // merged: the bridge writes it anew
		{"req.pump-07.shadow.update", `{"state":{"reported":{"b":2}}}`, "$emqx/things/pump-07/shadow/update"},
		{"req.pump-07.events.boot", `{"eventType":"boot","severity":"info"}`, "$emqx/things/pump-07/events/boot"}, // the bridge adds a timestamp
		{"up.pump-07.commands.x1.response", `{"status":"FAILED"}`, "$emqx/commands/things/pump-07/executions/x1/response"},
		{"up.pump-07.jobs.j1.update", `{"status":"IN_PROGRESS"}`, "$emqx/things/pump-07/jobs/j1/update"},
	} {
		want := spanOf(string(rune('1' + i)))
		if _, err := s.nc.RequestMsgWithContext(s.context(), want.message("fleets."+m.subject, m.payload)); err != nil {
			t.Fatalf("%s: %v", m.subject, err)
		}
		p, err := s.sim.WaitPublish(s.context(), func(p fleetsim.Publish) bool {
			return p.Topic == m.topic && len(p.User) > 0 && p.User[0].Value == want.parent
		})
		if err != nil {
			t.Fatalf("%s: nothing with its trace came on %s: %v", m.subject, m.topic, err)
		}
		want.on(t, m.subject, p)
	}
}

// The request's trace reaches the handler, and the handler's own the response: it is the child.
func TestTraceOfACommand(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := open(t, edit(func(c *gateway.Config) { c.Commands.HandlerWait = 50 * time.Millisecond }))
	cloud, handler := spanOf("1"), spanOf("2")
	got := make(chan nats.Header, 1)
	serve := func(action string, reply func(m *nats.Msg)) {
		if _, err := s.nc.Subscribe("fleets.cmd.pump-07."+action, func(m *nats.Msg) { got <- m.Header; reply(m) }); err != nil || s.nc.Flush() != nil {
			t.Fatal(err)
		}
	}
	serve("silent", func(m *nats.Msg) { _ = m.Respond(nil) })
	serve("traced", func(m *nats.Msg) { _ = m.RespondMsg(handler.message("", `{"status":"SUCCEEDED"}`)) })
	serve("wrong", func(m *nats.Msg) { _ = m.RespondMsg(handler.message("", `{"status":"DONE"}`)) })
	for action, response := range map[string]span{"silent": cloud, "traced": handler, "wrong": handler, "nobody": cloud} {
		at := mapping.Address{Thing: "pump-07", Channel: mapping.CommandRequest, ID: "of-" + action}
		raw := s.subscribe("fleets.down.pump-07.commands." + at.ID + ".request")
		s.down(at.Topic(), `{"action":"`+action+`"}`, fleetsim.PublishOptions{User: cloud.user()})
		cloud.in(t, action+": the raw request", s.next(raw).Header)
		if action != "nobody" {
			cloud.in(t, action+": the handler's request", <-got)
		}
		at.Channel = mapping.CommandResponse
		response.on(t, action+": the response", s.arrives(at.Topic(), ""))
	}
	handler.in(t, "the dead letter of a reply", s.letter("fleets.dead.up.pump-07.commands.of-wrong.response").Headers())
}

// A question's trace goes out with it, and the answer's comes back to the caller, an error's too.
func TestTraceOfAQuestion(t *testing.T) {
	t.Parallel()
	s := open(t, cloud(func(o *fleetsim.Options) { o.Misbehaviour.DropAnswers = 1 }))
	for name, answer := range map[string]string{"accepted": `{"queuedJobs":[]`, "rejected": `{"code":"InvalidRequest"`} {
		asked, answered := spanOf("1"), spanOf("2")
		if name == "rejected" {
			asked = spanOf("3")
		}
		reply := make(chan *nats.Msg, 1)
		go func() {
			m, _ := s.nc.RequestMsgWithContext(s.context(), asked.message("fleets.req.pump-07.jobs.get", ""))
			reply <- m
		}()
		p, err := s.sim.WaitPublish(s.context(), func(p fleetsim.Publish) bool {
			return p.Topic == "$emqx/things/pump-07/jobs/get" && len(p.User) > 0 && p.User[0].Value == asked.parent
		})
		if err != nil {
			t.Fatal(err)
		}
		asked.on(t, name, p)
		token := gjson.GetBytes(p.Payload, "clientToken").String()
		s.down("$emqx/things/pump-07/jobs/get/"+name, answer+`,"clientToken":"`+token+`"}`, fleetsim.PublishOptions{User: answered.user()})
		m := <-reply
		if m == nil {
			t.Fatalf("%s: no answer", name)
		}
		answered.in(t, name, m.Header)
	}
}

// A dead letter keeps its trace, and so does what is sent of it again, both ways.
func TestTraceOfADeadLetter(t *testing.T) {
	t.Parallel()
	s := open(t, edit(func(c *gateway.Config) { c.Shadow.Report = gateway.ReportAsSent }))
	letters, err := letters.New(s.nc, mustSubjects(t))
	if err != nil {
		t.Fatal(err)
	}
	up, down := spanOf("1"), spanOf("2")
	if _, err := s.js.PublishMsg(s.context(), up.message("fleets.up.pump-07.events.boot", `{"eventType":"boot"}`)); err != nil {
		t.Fatal(err)
	}
	m := s.letter("fleets.dead.up.pump-07.events.boot")
	up.in(t, "upwards", m.Headers())
	s.down("$emqx/things/pump-07/jobs/notify", `[]`, fleetsim.PublishOptions{User: down.user()})
	m = s.letter("fleets.dead.down.pump-07.jobs.notify")
	down.in(t, "downwards", m.Headers())

	sub := s.subscribe("fleets.down.pump-07.jobs.notify")
	for id, err := range letters.Replay(s.context(), 1, 2) {
		t.Fatalf("replay of %d: %v", id, err)
	}
	down.in(t, "downwards again", s.next(sub).Header)
	// What is replayed upwards is as wrong as before, and dies again with its trace.
	again := s.letter("fleets.dead.up.pump-07.events.boot")
	up.in(t, "upwards again", again.Headers())
}

func mustSubjects(t *testing.T) mapping.Subjects {
	t.Helper()
	subjects, err := mapping.NewSubjects("fleets")
	if err != nil {
		t.Fatal(err)
	}
	return subjects
}
