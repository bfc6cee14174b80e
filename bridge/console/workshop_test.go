package console

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

// A payload is checked as the bridge does it, with what the Thing brings, and what is wrong is found in it.
func TestValidate(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "events"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "events", "door.schema.json"), []byte(`{"type":"object","properties":{"open":{"type":"boolean"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, func(c *gateway.Config) { c.Things[0].SchemaDir = dir })
	looker := s.login(false)
	for _, c := range []struct {
		at, thing, payload, want string // want: what the first detail's span holds, or ok
	}{
		{"event", "", `{"eventType":"hot","severity":"info"}`, "ok"},
		{"event", "", `{"eventType":"hot","severity":"warning"}`, `"warning"`},
		{"fleets.up.pump-07.events.hot", "", `{"eventType":"cold","severity":"info"}`, `"cold"`},
		{"event", "", `{"eventType":"door","severity":"info","data":{"open":1}}`, "ok"},
		{"event", "pump-07", `{"eventType":"door","severity":"info","data":{"open":1}}`, "1"},
		{"fleets.up.pump-07.events.door", "", `{"eventType":"door","severity":"info","data":{"open":1}}`, "1"},
		{"$emqx/things/pump=2E08/shadow/update", "", `{"state":{"reported":1}}`, "1"},
		{"shadow.report", "", `{`, ""},
	} {
		code, text := s.call(looker, "POST", base+"validate", map[string]string{"at": c.at, "thing": c.thing, "payload": c.payload})
		if code != http.StatusOK {
			t.Errorf("%s: %d %s", c.at, code, text)
			continue
		}
		got := decode[validateAnswer](t, text)
		found := ""
		if got.OK {
			found = "ok"
		} else if span := got.Details[0].Span; span != nil {
			found = c.payload[span[0]:span[1]]
		}
		if found != c.want {
			t.Errorf("%s %s: %s", c.at, c.payload, text)
		}
	}
	if code, text := s.call(looker, "POST", base+"validate", map[string]string{"at": "event", "payload": `{"eventType":"hot","severity":"info","timestamp":1700000000}`}); code != 200 || !strings.Contains(text, "seconds") {
		t.Errorf("seconds: %d %s", code, text)
	}
	for _, body := range []string{`{"at":"evnt","payload":"{}"}`, `{"at":"fleets.up.*.events.x"}`, `{"at":"event","thing":"a.b"}`, `{"at":"event","payload":"","payloadBase64":""}`, `{"at":"event","payloadBase64":"%"}`} {
		if code, text := s.call(looker, "POST", base+"validate", body); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", body, code, text)
		}
	}
	if all := get[routesAnswer](s, "routes"); len(all.Routes) < 20 {
		t.Errorf("%d routes", len(all.Routes))
	}
	if one := get[routesAnswer](s, "routes?at=fleets.up.pump-07.events.hot"); len(one.Routes) != 1 || one.Routes[0].Topic != "$emqx/things/pump-07/events/hot" {
		t.Errorf("%+v", one)
	}
	if code, text := s.call(looker, "GET", base+"routes?at=evnt", nil); code != http.StatusBadRequest || !strings.Contains(text, "did you mean event?") {
		t.Errorf("%d %s", code, text)
	}
	if one := get[schemaAnswer](s, "schemas/event"); len(one.Rules) == 0 || !strings.Contains(string(one.Schema), "severity") {
		t.Errorf("%+v", one)
	}
	if code, _ := s.call(looker, "GET", base+"schemas/evnt", nil); code != http.StatusNotFound {
		t.Error("there is a schema that there is not")
	}
}

// A command is followed from the cloud to the answer, a message that waits is found where it waits, and what nobody knows is not made up.
func TestTraceAndWork(t *testing.T) {
	s := open(t, nil, "disconnected", "connection lost")
	s.tail(s.token, "")
	asked := make(chan *nats.Msg, 1)
	if _, err := s.nc.ChanSubscribe("fleets.cmd.pump-07.turn", asked); err != nil {
		t.Fatal(err)
	}
	if err := s.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	command, err := s.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "turn"})
	if err != nil {
		t.Fatal(err)
	}
	question := <-asked
	work := get[workAnswer](s, "things/pump-07/work")
	if len(work.Open) != 1 || work.Open[0].ID != command || work.Open[0].Action != "turn" || len(work.Answered) != 0 {
		t.Errorf("before the answer: %+v", work)
	}
	if o := get[overviewAnswer](s, "overview"); o.Work.Commands != 1 || o.Work.NextDeadline.IsZero() {
		t.Errorf("before the answer: %+v", o.Work)
	}
	if err := question.Respond([]byte(`{"status":"SUCCEEDED"}`)); err != nil {
		t.Fatal(err)
	}
	s.until("the answer is known", func() bool {
		work = get[workAnswer](s, "things/pump-07/work")
		return len(work.Answered) == 1 && len(work.Open) == 0
	})
	if a := work.Answered[0]; a.ID != command || a.Action != "turn" || a.Status != "SUCCEEDED" {
		t.Errorf("%+v", a)
	}
	var trace traceAnswer
	s.until("the trace is whole", func() bool {
		trace = get[traceAnswer](s, "trace?q="+command)
		return strings.Contains(trace.Verdict, "was answered SUCCEEDED")
	})
	for _, place := range []string{"came", "called", "replied", "answered"} {
		if !slices.ContainsFunc(trace.Steps, func(s step) bool { return s.Place == place && s.Token == "pump-07" }) {
			t.Errorf("no step %s: %+v", place, trace.Steps)
		}
	}
	came := get[list[storedMessage]](s, "things/pump-07/stored?channel=command.request")
	if len(came.Items) != 1 || came.Items[0].ID != command {
		t.Fatalf("%+v", came)
	}
	if one := get[list[storedMessage]](s, fmt.Sprint("things/pump-07/stored?seq=", came.Items[0].Sequence)); len(one.Items) != 1 || *one.Items[0].Text != *came.Items[0].Text {
		t.Errorf("%+v", one)
	}
	if code, _ := s.call(s.token, "GET", fmt.Sprint(base, "things/pump=2E08/stored?seq=", came.Items[0].Sequence), nil); code != http.StatusNotFound {
		t.Error("a Thing has a message of another")
	}

	s.link.Cut()
	s.until("the Thing is away", func() bool { return !get[thingAnswer](s, "things/pump-07").Connected })
	long := strings.Repeat("x", 5000)
	s.publish("fleets.up.pump-07.events.hot", `{"eventType":"hot","severity":"info","data":{"clientToken":"mine","x":"`+long+`"}}`)
	queue := get[queueAnswer](s, "things/pump-07/queue?kind=events")
	if len(queue.Lanes) != 1 || queue.Lanes[0].Messages != 1 || len(queue.Items) != 1 || !queue.Items[0].Cut || len(*queue.Items[0].Text) != maxHead {
		t.Fatalf("%+v", queue)
	}
	whole := get[queueAnswer](s, fmt.Sprint("things/pump-07/queue?kind=events&seq=", queue.Items[0].Sequence))
	if len(whole.Items) != 1 || whole.Items[0].Cut || len(*whole.Items[0].Text) != whole.Items[0].Bytes {
		t.Errorf("%+v", whole)
	}
	if got := get[traceAnswer](s, "trace?q=mine"); !got.Found || !strings.Contains(got.Verdict, "waits for the cloud") {
		t.Errorf("%+v", got)
	}
	if got := get[traceAnswer](s, "trace?q=nobody"); got.Found || len(got.Steps) != 0 {
		t.Errorf("%+v", got)
	}
	for _, query := range []string{"", "?q=", "?q=" + strings.Repeat("x", 301)} {
		if code, _ := s.call(s.token, "GET", base+"trace"+query, nil); code != http.StatusBadRequest {
			t.Errorf("%.10s: %d", query, code)
		}
	}
	for _, query := range []string{"kind=x", "seq=1", "limit=x"} {
		if code, _ := s.call(s.token, "GET", base+"things/pump-07/queue?"+query, nil); code != http.StatusBadRequest {
			t.Errorf("%s: %d", query, code)
		}
	}
	things := get[thingsAnswer](s, "things?state=down&q=PUMP*7&sort=queued")
	if len(things.Items) != 1 || things.Items[0].Thing != "pump-07" || things.Matched != 1 || things.States["all"] != 2 || len(things.Items[0].Problems) == 0 {
		t.Errorf("%+v", things)
	}
}

// An operator who may send asks as a program does: what is wrong is refused with its place, what is right reaches the cloud,
// and the log says who it was.
func TestSend(t *testing.T) {
	s := open(t, func(c *gateway.Config) {
		c.Console.Actions = []string{"send"}
		c.Local.Users = []gateway.User{{Name: "hvac", Password: "hunter2", Things: []string{"pump-07"}}} // who operates is none of them
	})
	for _, c := range []struct {
		subject, payload string
		code             int
		want             string
	}{
		{"fleets.req.pump=2E08.events.hot", `{"eventType":"hot","severity":"info"}`, 200, "seq"},
		{"fleets.req.pump-07.shadow.get", "", 200, "reported"},
		{"fleets.req.pump-07.events.hot", `{"eventType":"hot","severity":"warning"}`, 400, `"span":[30,39]`},
		{"fleets.req.pump-09.events.hot", `{"eventType":"hot","severity":"info"}`, 404, "pump-09"},
		{"fleets.req.pump-07.jobs.no-such.get", "", 502, "no-such"},
		{"fleets.up.pump-07.events.hot", `{"eventType":"hot","severity":"info"}`, 400, "fleets.req.>"},
		{"fleets.req.*.events.hot", `{"eventType":"hot","severity":"info"}`, 400, "fleets.req.>"},
		{"fleets.dead.up.pump-07", `{}`, 400, "fleets.req.>"},
		{"$SYS.REQ.SERVER.PING", "", 400, "fleets.req.>"},
		{"", "", 400, "fleets.req.>"},
	} {
		code, text := s.call(s.token, "POST", base+"send", map[string]string{"subject": c.subject, "payload": c.payload})
		if code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s %s: %d %s", c.subject, c.payload, code, text)
		}
	}
	if events, err := s.sim.WaitEvents(s.context(), "pump.08", 1); err != nil || events[0].Type != "hot" {
		t.Errorf("the cloud has %+v, %v", events, err)
	}
	said := 0
	for _, e := range get[list[gateway.Event]](s, "events").Items {
		if e.Message == "a message was sent from the console" && e.Attrs["role"] == "operator" && e.Attrs["login"] != "" {
			said++
		}
	}
	if said != 5 {
		t.Errorf("the log has %d lines of those that sent", said)
	}
}
