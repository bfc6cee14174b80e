package fleetsim_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/tidwall/gjson"

	"fleetbridge/fleetsim"
)

// brokers runs a test against the embedded broker and, with the build tag realbroker, against
// mosquitto.
func brokers(t *testing.T, f func(t *testing.T, o fleetsim.Options)) {
	t.Run("embedded", func(t *testing.T) { f(t, fleetsim.Options{}) })
	if withMosquitto {
		t.Run("mosquitto", func(t *testing.T) {
			f(t, fleetsim.Options{Broker: fleetsim.StartMosquitto(t, fleetsim.MosquittoOptions{}).URL()})
		})
	}
}

func TestShadow(t *testing.T) {
	brokers(t, func(t *testing.T, o fleetsim.Options) {
		sim := start(t, o)
		d := newDevice(t, sim.BrokerURL())
		ctx := deadline(t)

		if v := must(sim.PatchDesired(name, []byte(`{"rpm":1500,"valve":{"open":true,"k":12345678901234567890.10}}`)))(t); v != 1 {
			t.Errorf("version %d, want 1", v)
		}
		push := d.packet()
		if push.Topic != prefix+"shadow/update" || push.QoS != 1 || push.Retain {
			t.Errorf("push: %s QoS %d retain %t", push.Topic, push.QoS, push.Retain)
		}
		wantFields(t, gjson.ParseBytes(push.Payload), map[string]string{"state.desired": `{"rpm":1500,"valve":{"open":true,"k":12345678901234567890.10}}`, "version": "1"})
		delta := d.receive("/delta")
		wantFields(t, delta, map[string]string{"state.valve.k": "12345678901234567890.10", "version": "1"})
		if now := time.Now().Unix(); delta.Get("timestamp").Int() < now-60 || delta.Get("timestamp").Int() > now || delta.Get("metadata.valve.k.timestamp").Int() != delta.Get("timestamp").Int() {
			t.Errorf("times in %s", delta.Raw)
		}

		d.send(prefix+"shadow/update", `{"state":{"reported":{"rpm":1500.0,"valve":{"open":true},"x":1e2}},"clientToken":"x"}`)
		reported := must(sim.WaitReported(ctx, name, func(b []byte) bool { return gjson.GetBytes(b, "rpm").Exists() }))(t)
		if string(reported) != `{"rpm":1500.0,"valve":{"open":true},"x":1e2}` {
			t.Errorf("reported %s", reported)
		}
		d.send(prefix+"shadow/update", `{"state":{"reported":{"x":null,"y":0}},"version":2}`)
		must(sim.WaitReported(ctx, name, func(b []byte) bool { return gjson.GetBytes(b, "y").Exists() && !gjson.GetBytes(b, "x").Exists() }))(t)
		s := must(sim.Shadow(name))(t)
		if string(s.Delta) != `{"valve":{"k":12345678901234567890.10}}` || s.Version != 3 {
			t.Errorf("delta %s, version %d", s.Delta, s.Version)
		}

		must(sim.ClearDesired(name))(t)
		wantFields(t, d.receive("shadow/update"), map[string]string{"state.desired": "null", "version": "4"})
		if v := sim.Violations(); len(v) > 0 {
			t.Errorf("violations: %+v", v)
		}
	})
}

func TestShadowVersionConflictIsInvisible(t *testing.T) {
	sim := start(t, fleetsim.Options{})
	d := newDevice(t, sim.BrokerURL())
	d.send(prefix+"shadow/update", `{"state":{"reported":{"a":1}}}`)
	d.send(prefix+"shadow/update", `{"state":{"reported":{"a":2}},"version":7}`)
	d.send(prefix+"shadow/update", `{"state":{"reported":{"b":1}},"version":0}`)
	got := must(sim.WaitReported(deadline(t), name, func(b []byte) bool { return gjson.GetBytes(b, "b").Exists() }))(t)
	if string(got) != `{"a":1,"b":1}` {
		t.Errorf("reported %s", got)
	}
}

func TestShadowOptions(t *testing.T) {
	sim := start(t, fleetsim.Options{ReplaceReported: true, RepublishDelta: true, WholeDesired: true})
	d := newDevice(t, sim.BrokerURL())
	must(sim.PatchDesired(name, []byte(`{"a":1}`)))(t)
	d.receive("/delta")
	must(sim.PatchDesired(name, []byte(`{"b":2}`)))(t)
	wantFields(t, d.receive("shadow/update"), map[string]string{"state.desired": `{"a":1,"b":2}`})
	d.receive("/delta")
	d.send(prefix+"shadow/update", `{"state":{"reported":{"a":1,"c":1}}}`)
	wantFields(t, d.receive("/delta"), map[string]string{"state": `{"b":2}`, "version": "3"})
	d.send(prefix+"shadow/update", `{"state":{"reported":{"b":2}}}`)
	wantFields(t, d.receive("/delta"), map[string]string{"state": `{"a":1}`, "version": "4"})
}

func TestCommand(t *testing.T) {
	brokers(t, func(t *testing.T, o fleetsim.Options) {
		sim := start(t, o)
		d := newDevice(t, sim.BrokerURL())
		ctx := deadline(t)
		id := must(sim.SendCommand(fleetsim.Command{Thing: name, Action: "purge", Params: []byte(`{"sec":10.00}`), TTL: 29500 * time.Millisecond}))(t)
		request := d.receive(id + "/request")
		wantFields(t, request, map[string]string{"action": `"purge"`, "params.sec": "10.00", "ttl": "30"})
		if request.Get("commandId").String() == "" || request.Get("timestamp").Int() < time.Now().Unix()-60 {
			t.Errorf("request %s", request.Raw)
		}
		response := "$emqx/commands/things/" + name + "/executions/" + id + "/response"
		d.send(response, `{"status":"FAILED","result":{"code":17}}`)
		e := must(sim.WaitCommand(ctx, id))(t)
		if e.Status != fleetsim.Failed || string(e.Result) != `{"code":17}` || len(e.Responses) != 1 {
			t.Errorf("execution %+v", e)
		}
		d.send(response, `{"status":"SUCCEEDED"}`)
		must(sim.WaitPublish(ctx, func(p fleetsim.Publish) bool { return string(p.Payload) == `{"status":"SUCCEEDED"}` }))(t)
		d.send(prefix+"shadow/update", `{"state":{"reported":{"after":1}}}`)
		must(sim.WaitReported(ctx, name, func(b []byte) bool { return b != nil }))(t)
		if e = must(sim.Command(id))(t); e.Status != fleetsim.Failed || len(e.Responses) != 2 {
			t.Errorf("after a second response: %+v", e)
		}
		if err := sim.RepeatCommand(id); err != nil {
			t.Fatal(err)
		}
		if again := d.receive(id + "/request"); again.Raw != request.Raw {
			t.Errorf("repeated as %s", again.Raw)
		}
	})
}

func TestCommandEndsWithoutResponse(t *testing.T) {
	brokers(t, func(t *testing.T, o fleetsim.Options) {
		sim := start(t, o)
		ctx := deadline(t)
		unheard := must(sim.SendCommand(fleetsim.Command{Thing: name, Action: "a"}))(t)
		if e := must(sim.WaitCommand(ctx, unheard))(t); e.Status != fleetsim.Failed {
			t.Errorf("nobody subscribed: %s", e.Status)
		}
		d := newDevice(t, sim.BrokerURL())
		late := must(sim.SendCommand(fleetsim.Command{Thing: name, Action: "a", TTL: 20 * time.Millisecond, ID: "late", Issued: time.Unix(1, 0)}))(t)
		wantFields(t, d.receive("late/request"), map[string]string{"ttl": "1", "timestamp": "1"})
		if e := must(sim.WaitCommand(ctx, late))(t); e.Status != fleetsim.TimedOut {
			t.Errorf("after the ttl: %s", e.Status)
		}
		canceled := must(sim.SendCommand(fleetsim.Command{Thing: name, Action: "a"}))(t)
		if err := sim.CancelCommand(canceled); err != nil {
			t.Fatal(err)
		}
		if e := must(sim.WaitCommand(ctx, canceled))(t); e.Status != fleetsim.Canceled {
			t.Errorf("after cancel: %s", e.Status)
		}
		if _, err := sim.SendCommand(fleetsim.Command{Thing: name, Action: "a", ID: "late"}); err == nil {
			t.Error("an execution id was used twice")
		}
		if _, err := sim.SendCommand(fleetsim.Command{Thing: "nobody", Action: "a"}); err == nil {
			t.Error("an unknown Thing got a command")
		}
	})
}

func TestEvents(t *testing.T) {
	brokers(t, func(t *testing.T, o fleetsim.Options) {
		sim := start(t, o)
		d := newDevice(t, sim.BrokerURL())
		if r := d.send(prefix+"events/dryRun", `{"eventType":"dryRun","severity":"error","data":{"p":0.20},"timestamp":1780000000123}`); r.ReasonCode != 0 && r.ReasonCode != 0x10 {
			t.Errorf("PUBACK %#x", r.ReasonCode)
		}
		d.send(prefix+"events/boot", `{"eventType":"boot","severity":"info"}`)
		events := must(sim.WaitEvents(deadline(t), name, 2))(t)
		if e := events[0]; e.Type != "dryRun" || e.Severity != "error" || string(e.Data) != `{"p":0.20}` || e.Timestamp != 1780000000123 {
			t.Errorf("event %+v", e)
		}
		if e := events[1]; e.Data != nil || e.Timestamp != e.Arrived.UnixMilli() {
			t.Errorf("event %+v", e)
		}
	})
}

func TestViolations(t *testing.T) {
	for _, c := range []struct{ topic, payload, reason string }{
		{"$emqx/things/pump-07/shadow/update", `{"state":{}}`, "state.reported"},
		{"$emqx/things/pump-07/shadow/update", `{"state":{"reported":[]}}`, "state.reported"},
		{"$emqx/things/pump-07/shadow/update", `{"state":{"reported":{},"desired":{}}}`, "state.desired"},
		{"$emqx/things/pump-07/shadow/update", `{"state":{"reported":{}},"version":-1}`, "version"},
		{"$emqx/things/pump-07/shadow/update", `nonsense`, "not JSON"},
		{"$emqx/things/pump-07/shadow/update", `[]`, "no JSON object"},
		{"$emqx/things/pump-07/shadow/get", `{}`, "no such channel"},
		{"$emqx/things/pump-07/events/a", `{"eventType":"b","severity":"info"}`, "eventType"},
		{"$emqx/things/pump-07/events/a", `{"eventType":"a","severity":"warning"}`, "severity"},
		{"$emqx/things/pump-07/events/a", `{"eventType":"a","severity":"warn","data":1}`, "data"},
		{"$emqx/things/pump-07/events/a", `{"eventType":"a","severity":"warn","timestamp":1.5}`, "timestamp"},
		{"$emqx/commands/things/pump-07/executions/e/response", `{"status":"DONE"}`, "status"},
		{"$emqx/commands/things/pump-07/executions/e/response", `{"status":"FAILED","result":[]}`, "result"},
		{"$emqx/commands/things/pump-07/executions/e/response", `{"status":"FAILED","thingName":"pump-07"}`, "thingName"},
	} {
		t.Run(c.topic[strings.LastIndex(c.topic, "/")+1:]+" "+c.payload, func(t *testing.T) {
			sim := start(t, fleetsim.Options{}, fleetsim.Expect("protocol violation"))
			newDevice(t, sim.BrokerURL()).send(c.topic, c.payload)
			v := sim.Violations()
			if len(v) != 1 || !strings.Contains(v[0].Reason, c.reason) || v[0].Publish.Topic != c.topic {
				t.Errorf("violations %+v, want one that says %q", v, c.reason)
			}
		})
	}
	t.Run("QoS and retain", func(t *testing.T) {
		sim := start(t, fleetsim.Options{}, fleetsim.Expect("protocol violation"))
		d := newDevice(t, sim.BrokerURL())
		_, _ = d.client.Publish(deadline(t), &paho.Publish{Topic: prefix + "events/a", Payload: []byte(`{"eventType":"a","severity":"info"}`), Retain: true})
		must(sim.WaitEvents(deadline(t), name, 1))(t)
		if v := sim.Violations(); len(v) != 2 {
			t.Errorf("violations %+v", v)
		}
	})
}

func TestRawPublish(t *testing.T) {
	brokers(t, func(t *testing.T, o fleetsim.Options) {
		sim := start(t, o)
		user := []fleetsim.UserProperty{{Key: "traceparent", Value: "00-1-2-03"}}
		topic := "$emqx/commands/things/" + name + "/executions/e1/request"
		if err := sim.Publish(topic, []byte(`not json`), fleetsim.PublishOptions{Retain: true, User: user}); err != nil {
			t.Fatal(err)
		}
		d := newDevice(t, sim.BrokerURL())
		p := d.packet()
		if p.Topic != topic || string(p.Payload) != "not json" || !p.Retain || p.QoS != 1 || p.Properties.User.Get("traceparent") != "00-1-2-03" {
			t.Errorf("received %+v", p)
		}
		up := &paho.Publish{Topic: prefix + "events/a", Payload: []byte(`{"eventType":"a","severity":"info"}`), QoS: 1, Properties: &paho.PublishProperties{}}
		up.Properties.User.Add("tracestate", "x=1")
		if _, err := d.client.Publish(deadline(t), up); err != nil {
			t.Fatal(err)
		}
		got := must(sim.WaitPublish(deadline(t), func(p fleetsim.Publish) bool { return p.Topic == up.Topic }))(t)
		if got.QoS != 1 || got.Retain || !slices.Equal(got.User, []fleetsim.UserProperty{{Key: "tracestate", Value: "x=1"}}) {
			t.Errorf("recorded %+v", got)
		}
		if list := sim.Received(); len(list) != 1 {
			t.Errorf("received %+v", list)
		}
	})
}

// A device that is away gets what was sent meanwhile, in order.
func TestOfflineQueue(t *testing.T) {
	sim := start(t, fleetsim.Options{})
	d := newDevice(t, sim.BrokerURL())
	if err := d.client.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	if err := sim.Broker().WaitConnected(deadline(t), name, false); err != nil {
		t.Fatal(err)
	}
	const n = 200
	for range n {
		if err := sim.Publish(prefix+"jobs/notify", []byte(`{}`), fleetsim.PublishOptions{}); err != nil {
			t.Fatal(err)
		}
		must(sim.PatchDesired(name, []byte(`{"a":1}`)))(t)
	}
	must(sim.SendCommand(fleetsim.Command{Thing: name, Action: "last"}))(t)
	if err := sim.WaitSent(deadline(t)); err != nil {
		t.Fatal(err)
	}
	again, ack, err := connect(t, sim.BrokerURL(), login{})
	if err != nil || !ack.SessionPresent {
		t.Fatal(ack, err)
	}
	last := int64(0)
	for {
		p := again.packet()
		if strings.HasSuffix(p.Topic, "/request") {
			break
		}
		if strings.HasSuffix(p.Topic, "/delta") {
			v := gjson.GetBytes(p.Payload, "version").Int()
			if v != last+1 {
				t.Fatalf("version %d after %d", v, last)
			}
			last = v
		}
	}
	if last != n {
		t.Errorf("the last version is %d, want %d", last, n)
	}
}

func TestAutoCreate(t *testing.T) {
	sim := start(t, fleetsim.Options{Things: []string{}})
	newDevice(t, sim.BrokerURL()).send(prefix+"events/a", `{"eventType":"a","severity":"info"}`)
	if got := sim.Things(); len(got) != 0 {
		t.Errorf("things %+v", got)
	}
	sim = start(t, fleetsim.Options{Things: []string{}, AutoCreate: true})
	newDevice(t, sim.BrokerURL()).send(prefix+"events/a", `{"eventType":"a","severity":"info"}`)
	if got := sim.Things(); len(got) != 1 || got[0].Name != name {
		t.Errorf("things %+v", got)
	}
	if _, err := sim.CreateThing(name); err == nil {
		t.Error("a Thing was created twice")
	}
	if _, err := sim.CreateThing("a/b"); err == nil {
		t.Error("a Thing with a slash was created")
	}
}

func TestRunEnds(t *testing.T) {
	sim := must(fleetsim.New(fleetsim.Options{Log: fleetsim.Log(t)}))(t)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- sim.Run(ctx) }()
	cancel()
	select {
	case err := <-result:
		if err != nil {
			t.Error(err)
		}
	case <-deadline(t).Done():
		t.Fatal("Run goes on")
	}
	if err := sim.Run(t.Context()); err == nil {
		t.Error("Run ran twice")
	}
	if err := errors.Join(sim.Close(), sim.Close()); err != nil {
		t.Error(err)
	}
	never := must(fleetsim.New(fleetsim.Options{}))(t)
	if err := never.Close(); err != nil {
		t.Error(err)
	}
	if _, err := fleetsim.New(fleetsim.Options{Broker: "localhost:1883"}); err == nil || !strings.Contains(err.Error(), "mqtt://host:port") {
		t.Errorf("a broker without scheme: %v", err)
	}
}
