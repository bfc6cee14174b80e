// A thermostat that is a Thing in EMQX Fleets, as an ordinary NATS program.
//
// It reports its state, sends an event when it gets too warm, follows the target temperature that the
// cloud asks for, serves the command setTemperature, and does the jobs that it is given.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math"
	"os"
	"os/signal"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
)

const coldest, hottest, tooWarm = 5, 30, 28

type thermostat struct {
	nc        *nats.Conn
	js        jetstream.JetStream
	thing     string
	pause     time.Duration // between two measurements
	targets   chan float64  // what the cloud wants
	connected chan struct{} // may have missed something
	hint      chan struct{} // a job may wait
	closed    chan struct{}

	mu      sync.Mutex
	version int64 // of the shadow that was applied
}

// object is JSON to send.
type object map[string]any

var special = regexp.MustCompile(`[^A-Za-z0-9_-]`)

// token spells a name as one word of a subject: every byte but A-Z a-z 0-9 _ - is written =XX.
func token(name string) string {
	return special.ReplaceAllStringFunc(name, func(s string) string {
		var out string
		for _, b := range []byte(s) {
			out += fmt.Sprintf("=%02X", b)
		}
		return out
	})
}

// publish returns when the gateway has the message and will not lose it, or ctx has ended.
func (t *thermostat) publish(ctx context.Context, tail string, payload object) error {
	data, _ := json.Marshal(payload)
	id := nats.NewInbox() // or anything else that is unique
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := t.js.Publish(attempt, "fleets.up."+t.thing+"."+tail, data, jetstream.WithMsgID(id))
		cancel()
		switch {
		case err == nil || ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, jetstream.ErrNoStreamResponse):
			return fmt.Errorf("%s is not configured at the gateway", t.thing)
		case errors.Is(err, nats.ErrConnectionClosed):
			return t.nc.LastError()
		}
		log.Printf("%s: %v, trying again", tail, err) // it is being restarted; the same id is not stored twice
		time.Sleep(time.Second)
	}
}

func (t *thermostat) report(ctx context.Context, state object) error {
	return t.publish(ctx, "shadow.update", object{"state": object{"reported": state}})
}

// ask is a question to the cloud; answer takes what it says.
func (t *thermostat) ask(ctx context.Context, tail string, payload object, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	m := nats.NewMsg("fleets.req." + t.thing + "." + tail)
	m.Header.Set("Fleets-Worker", "thermostat") // a job that has begun stays with this name
	m.Data, _ = json.Marshal(payload)
	reply, err := t.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return fmt.Errorf("%s: %w", tail, err)
	}
	if text := reply.Header.Get(micro.ErrorHeader); text != "" {
		return fmt.Errorf("%s: %s", tail, text)
	}
	return json.Unmarshal(reply.Data, answer)
}

// run has the temperature follow the target, and reports both, until ctx ends.
func (t *thermostat) run(ctx context.Context) error {
	temperature, target := 18.0, 20.0
	err := t.report(ctx, object{"temperature": temperature, "targetTemperature": target})
	tick := time.Tick(t.pause)
	for err == nil {
		select {
		case <-ctx.Done():
			return nil
		case wanted := <-t.targets:
			target = min(max(wanted, coldest), hottest) // what it can do, not what it is told
			err = t.report(ctx, object{"targetTemperature": target})
		case <-t.connected:
			go t.catchUp(ctx)
		case <-tick:
			before := temperature
			temperature = math.Round((before+(target-before)*0.2)*100) / 100
			if temperature != before {
				err = t.report(ctx, object{"temperature": temperature})
			}
			if err == nil && before <= tooWarm && temperature > tooWarm {
				err = t.publish(ctx, "events.overheated", object{
					"eventType": "overheated", "severity": "warn", "data": object{"temperature": temperature}})
			}
		}
	}
	return err
}

// settings are what the cloud may set; a delta is a part of them.
type settings struct{ TargetTemperature *float64 }

// apply passes on what the cloud wants. What is of an older version of the shadow comes too late: an answer and a delta come
// on two goroutines.
func (t *thermostat) apply(s settings, version int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.TargetTemperature != nil && version >= t.version {
		t.version = version
		t.targets <- *s.TargetTemperature
	}
}

func (t *thermostat) onDelta(m *nats.Msg) {
	var delta struct {
		State   settings
		Version int64
	}
	if err := json.Unmarshal(m.Data, &delta); err != nil {
		log.Printf("delta: %v", err)
	}
	t.apply(delta.State, delta.Version)
}

// setTemperature serves the command. An error of the service is a command that FAILED.
func (t *thermostat) setTemperature(r micro.Request) {
	var command struct{ Params struct{ Value *float64 } }
	err := json.Unmarshal(r.Data(), &command)
	value := command.Params.Value
	if err != nil || value == nil || *value < coldest || *value > hottest {
		_ = r.Error("400", fmt.Sprintf("params.value is no number from %d to %d", coldest, hottest), nil)
		return
	}
	t.targets <- *value
	_ = r.RespondJSON(object{"status": "SUCCEEDED", "result": object{"targetTemperature": *value}})
}

// work does the jobs that wait, now and after each hint. What failed is tried again.
func (t *thermostat) work(ctx context.Context) {
	for ctx.Err() == nil {
		more, err := t.job(ctx)
		var again <-chan time.Time
		if err != nil {
			log.Printf("jobs: %v", err)
			again = time.After(t.pause)
		}
		if !more {
			select {
			case <-ctx.Done():
			case <-t.hint:
			case <-again:
			}
		}
	}
}

// job does the next job, if there is one.
func (t *thermostat) job(ctx context.Context) (more bool, err error) {
	var next struct {
		Execution *struct {
			JobID       string
			JobDocument struct{ Seconds float64 }
		}
	}
	if err := t.ask(ctx, "jobs.start-next", object{}, &next); err != nil || next.Execution == nil {
		return false, err
	}
	log.Printf("job %s", next.Execution.JobID)
	update := "jobs." + token(next.Execution.JobID) + ".update"
	if err := t.ask(ctx, update, object{"status": "IN_PROGRESS", "statusDetails": object{"progress": "50 %"}}, &struct{}{}); err != nil {
		return false, err
	}
	time.Sleep(time.Duration(next.Execution.JobDocument.Seconds * float64(time.Second)))
	err = t.ask(ctx, update, object{"status": "SUCCEEDED", "statusDetails": object{"progress": "done"}}, &struct{}{})
	return err == nil, err
}

// wake leaves a note for whoever waits for one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is there
	}
}

// catchUp does what the cloud asked for while this program was not listening.
func (t *thermostat) catchUp(ctx context.Context) {
	wake(t.hint)
	var shadow struct {
		Delta   settings
		Version int64
	}
	if err := t.ask(ctx, "shadow.get", object{}, &shadow); err != nil {
		log.Printf("shadow: %v", err) // nothing is known yet; what comes is a delta
	}
	t.apply(shadow.Delta, shadow.Version)
}

// connect subscribes to what the cloud wants, commands, and hints at. Until the gateway is there, this waits
// in the background.
func (t *thermostat) connect() (err error) {
	connected := func(*nats.Conn) { wake(t.connected) }
	t.nc, err = nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL),
		nats.UserInfo(os.Getenv("NATS_USER"), os.Getenv("NATS_PASSWORD")),
		nats.CustomInboxPrefix(cmp.Or(os.Getenv("NATS_INBOX_PREFIX"), "_INBOX")),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.DrainTimeout(2*time.Second),
		nats.ConnectHandler(connected), nats.ReconnectHandler(connected), nats.ClosedHandler(func(*nats.Conn) { close(t.closed) }))
	if err != nil {
		return err
	}
	t.js, err = jetstream.New(t.nc)
	_, err1 := t.nc.Subscribe("fleets.down."+t.thing+".shadow.update.delta", t.onDelta)
	_, err2 := t.nc.Subscribe("fleets.down."+t.thing+".jobs.notify-next", func(*nats.Msg) { wake(t.hint) })
	service, err3 := micro.AddService(t.nc, micro.Config{Name: "thermostat", Version: "1.0.0"})
	if err := errors.Join(err, err1, err2, err3); err != nil {
		return err
	}
	return service.AddGroup("fleets.cmd."+t.thing).AddEndpoint("setTemperature", micro.HandlerFunc(t.setTemperature))
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	pause, err := time.ParseDuration(cmp.Or(os.Getenv("PAUSE"), "5") + "s")
	if err != nil {
		log.Fatalf("PAUSE: %v", err)
	}
	t := &thermostat{
		thing: token(cmp.Or(os.Getenv("THING"), "thermostat-001")), pause: pause, targets: make(chan float64, 16),
		connected: make(chan struct{}, 1), hint: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	if err := t.connect(); err != nil {
		log.Fatal(err)
	}
	go t.work(ctx)
	if err := t.run(ctx); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
	if t.nc.Drain() == nil { // what has come is answered
		<-t.closed
	}
}
