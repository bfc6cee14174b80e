package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// thermostat is a sample program, as anybody may write one: it speaks NATS on behalf of the Thing
// thermostat-001, and knows neither MQTT nor fleetbridge. It is here to be copied.
type thermostat struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	install func(context.Context, json.RawMessage) error // what a job does to the device
	trouble func(error)                                  // hears of what no caller waits for
	hint    chan struct{}
	served  atomic.Int32 // commands carried out
}

// settings are what the cloud may set.
type settings struct {
	Mode   string  `json:"mode,omitempty"`
	Target float64 `json:"targetTemperature,omitempty"`
}

// connect subscribes to what the cloud wants, to what it commands, and to its hints that a job waits.
// Members of one queue group share the commands: each goes to one of them.
func (t *thermostat) connect(url string, options ...nats.Option) (err error) {
	if t.nc, err = nats.Connect(url, options...); err != nil {
		return err
	}
	if t.js, err = jetstream.New(t.nc); err != nil {
		return err
	}
	t.hint = make(chan struct{}, 1)
	t.hint <- struct{}{} // jobs may wait already
	_, err1 := t.nc.Subscribe("fleets.down.thermostat-001.shadow.update.delta", t.delta)
	_, err2 := t.nc.QueueSubscribe("fleets.cmd.thermostat-001.setTemperature", "thermostat", t.setTemperature)
	_, err3 := t.nc.Subscribe("fleets.down.thermostat-001.jobs.notify", t.notified)
	return errors.Join(err1, err2, err3, t.nc.Flush())
}

// measure reports a reading. One that is too high is an event, too.
func (t *thermostat) measure(celsius float64) error {
	if celsius > 40 {
		event := fmt.Sprintf(`{"eventType":"tooHot","severity":"warn","data":{"celsius":%v}}`, celsius)
		if err := t.publish("fleets.up.thermostat-001.events.tooHot", event); err != nil {
			return err
		}
	}
	return t.report(fmt.Sprintf(`{"temperature":%v}`, celsius))
}

// report tells a part of the state; the rest stays as it was reported before.
func (t *thermostat) report(part string) error {
	return t.publish("fleets.up.thermostat-001.shadow.update", `{"state":{"reported":`+part+`}}`)
}

// publish returns when the gateway has stored the message. Whether the cloud can be reached is not
// this program's concern any more.
func (t *thermostat) publish(subject, payload string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := t.js.Publish(ctx, subject, []byte(payload))
	return err
}

// delta applies what is desired and not yet reported, and reports what came of it.
func (t *thermostat) delta(m *nats.Msg) {
	var d struct{ State settings }
	if err := json.Unmarshal(m.Data, &d); err != nil {
		t.trouble(err)
		return
	}
	t.apply(d.State)
}

// apply would turn the heating, within its limits; then the device tells how it stands.
func (t *thermostat) apply(s settings) {
	if s.Target != 0 {
		s.Target = min(max(s.Target, coldest), hottest)
	}
	if s == (settings{}) {
		return // nothing that this device has
	}
	part, err := json.Marshal(s)
	if err == nil {
		err = t.report(string(part))
	}
	if err != nil {
		t.trouble(err)
	}
}

// What the heating can do, in degrees Celsius.
const coldest, hottest = 5, 30

// setTemperature carries out a command; its reply is the response that the cloud gets.
func (t *thermostat) setTemperature(m *nats.Msg) {
	var c struct{ Params struct{ Value float64 } }
	if err := json.Unmarshal(m.Data, &c); err != nil || c.Params.Value < coldest || c.Params.Value > hottest {
		_ = m.Respond([]byte(`{"status":"REJECTED","result":{"error":"params.value is not from 5 to 30"}}`))
		return
	}
	t.served.Add(1)
	_ = m.Respond(fmt.Appendf(nil, `{"status":"SUCCEEDED","result":{"targetTemperature":%v}}`, c.Params.Value))
	t.apply(settings{Target: c.Params.Value})
}

// notified takes the hint when it tells of a job that nobody has begun.
func (t *thermostat) notified(m *nats.Msg) {
	var n struct{ Jobs map[string]json.RawMessage }
	if json.Unmarshal(m.Data, &n) == nil && n.Jobs["QUEUED"] == nil {
		return
	}
	select {
	case t.hint <- struct{}{}:
	default: // one is waiting
	}
}

// work does the jobs that wait, now and after each hint, until ctx ends.
func (t *thermostat) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.hint:
		}
		var list struct{ InProgressJobs, QueuedJobs []struct{} }
		err := t.ask(ctx, "jobs.get", `{}`, &list)
		for range len(list.InProgressJobs) + len(list.QueuedJobs) {
			err = errors.Join(err, t.job(ctx))
		}
		if err != nil && ctx.Err() == nil {
			t.trouble(err)
		}
	}
}

// job starts the next job, carries it out, and tells the cloud how it went.
func (t *thermostat) job(ctx context.Context) error {
	var next struct {
		Execution struct {
			JobID       string
			JobDocument json.RawMessage
		}
	}
	if err := t.ask(ctx, "jobs.start-next", `{"statusDetails":{"progress":"starting"}}`, &next); err != nil || next.Execution.JobID == "" {
		return err
	}
	update := "jobs." + next.Execution.JobID + ".update"
	if err := t.ask(ctx, update, `{"status":"IN_PROGRESS","statusDetails":{"progress":"50 %"}}`, nil); err != nil {
		return err
	}
	if err := t.install(ctx, next.Execution.JobDocument); err != nil {
		return errors.Join(err, t.ask(ctx, update, `{"status":"FAILED"}`, nil))
	}
	return t.ask(ctx, update, `{"status":"SUCCEEDED","statusDetails":{"progress":"done"}}`, nil)
}

// ask is a question to the cloud and its answer. The worker's name keeps others off a job that this
// program has begun.
func (t *thermostat) ask(ctx context.Context, tail, payload string, answer any) error {
	m := nats.NewMsg("fleets.req.thermostat-001." + tail)
	m.Data = []byte(payload)
	m.Header.Set("Fleets-Worker", "thermostat")
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	reply, err := t.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return fmt.Errorf("%s: %w", tail, err)
	}
	if text := reply.Header.Get("Nats-Service-Error"); text != "" {
		return fmt.Errorf("%s: %s %s", tail, reply.Header.Get("Nats-Service-Error-Code"), text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(reply.Data, answer)
}
