package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"
)

// byNATS is a thermostat that is a program of a bridge.
type byNATS struct {
	thing string // as a token
	nc    *nats.Conn
	js    jetstream.JetStream
}

func newNATS() *byNATS {
	return &byNATS{thing: token(os.Getenv("THING"))}
}

// token spells a name as one word of a subject.
func token(name string) string {
	return special.ReplaceAllStringFunc(name, func(s string) (out string) {
		for _, b := range []byte(s) {
			out += fmt.Sprintf("=%02X", b)
		}
		return out
	})
}

var special = regexp.MustCompile(`[^A-Za-z0-9_-]`)

func (n *byNATS) publish(ctx context.Context, tail, payload string) error {
	id := nats.NewInbox()
	thing := n.thing
	if makes("wrong-subject") && tail == "shadow.update" {
		thing += "x"
	}
	for { // until the gateway has it
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := n.js.Publish(attempt, "fleets.up."+thing+"."+tail, []byte(payload), jetstream.WithMsgID(id))
		cancel()
		if err == nil || ctx.Err() != nil || errors.Is(err, jetstream.ErrNoStreamResponse) {
			return err
		}
	}
}

func (n *byNATS) report(ctx context.Context, state string) error {
	return n.publish(ctx, "shadow.update", state)
}

func (n *byNATS) event(ctx context.Context, kind, payload string) error {
	return n.publish(ctx, "events."+kind, payload)
}

// ask is a question to the cloud.
func (n *byNATS) ask(ctx context.Context, tail, payload string) (gjson.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	m := nats.NewMsg("fleets.req." + n.thing + "." + tail)
	m.Data = []byte(payload)
	m.Header.Set("Fleets-Worker", "device")
	if makes("forgets-job") {
		m.Header.Set("Fleets-Worker", nats.NewInbox()[7:])
	}
	answer, err := n.nc.RequestMsgWithContext(ctx, m)
	if err == nil && answer.Header.Get("Nats-Service-Error") != "" {
		err = errors.New(answer.Header.Get("Nats-Service-Error"))
	}
	if err != nil {
		return gjson.Result{}, err
	}
	return gjson.ParseBytes(answer.Data), nil
}

func (n *byNATS) run(ctx context.Context, t *thermostat) error {
	up := make(chan struct{}, 100)
	connected := func(*nats.Conn) { up <- struct{}{} }
	var err error
	options := []nats.Option{
		nats.UserInfo(os.Getenv("NATS_USER"), os.Getenv("NATS_PASSWORD")), nats.RetryOnFailedConnect(!makes("impatient")), nats.MaxReconnects(-1),
		nats.ReconnectWait(200 * time.Millisecond), nats.ReconnectJitter(0, 0), nats.ConnectHandler(connected), nats.ReconnectHandler(connected),
	}
	if makes("no-reconnect") {
		options = append(options, nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { os.Exit(1) }))
	}
	if n.nc, err = nats.Connect(os.Getenv("NATS_URL"), options...); err != nil {
		return err
	}
	defer n.nc.Close()
	if n.js, err = jetstream.New(n.nc); err != nil {
		return err
	}
	hint := make(chan struct{}, 1)
	wake := func() {
		select {
		case hint <- struct{}{}:
		default:
		}
	}
	_, err1 := n.nc.Subscribe("fleets.down."+n.thing+".shadow.update.delta", func(m *nats.Msg) {
		if doc, ok := object(m.Data); ok {
			_ = t.apply(ctx, doc.Get("state"))
		}
	})
	_, err2 := n.nc.Subscribe("fleets.down."+n.thing+".jobs.notify-next", func(*nats.Msg) { wake() })
	_, err3 := n.nc.QueueSubscribe("fleets.cmd."+n.thing+".setTemperature", "device", func(m *nats.Msg) {
		if doc, ok := object(m.Data); ok && !makes("no-answer") {
			_ = m.Respond([]byte(t.serve(ctx, "setTemperature", doc.Get("params"))))
		}
	})
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	go n.jobs(ctx, t, hint)
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return nil
		case <-up:
		}
		if first {
			go func() { _ = t.tell(ctx) }()
		}
		wake()
		go func() {
			if doc, err := n.ask(ctx, "shadow.get", ""); err == nil && !makes("forgets-desired") {
				_ = t.apply(ctx, doc.Get("delta"))
			}
		}()
	}
}

// jobs does what waits, now and after each hint. What failed is tried again.
func (n *byNATS) jobs(ctx context.Context, t *thermostat, hint chan struct{}) {
	for !makes("no-job") {
		more, err := n.job(ctx, t)
		var again <-chan time.Time
		if err != nil {
			again = time.After(300 * time.Millisecond)
		}
		if !more {
			select {
			case <-ctx.Done():
				return
			case <-hint:
			case <-again:
			}
		}
	}
}

func (n *byNATS) job(ctx context.Context, t *thermostat) (more bool, err error) {
	next, err := n.ask(ctx, "jobs.start-next", "")
	e := next.Get("execution")
	if err != nil || !e.IsObject() {
		return false, err
	}
	id := token(e.Get("jobId").String())
	err = t.work(e.Get("jobDocument"), func(status string) error {
		_, err := n.ask(ctx, "jobs."+id+".update", fmt.Sprintf(`{"status":%q}`, status))
		return err
	})
	return err == nil, err
}
