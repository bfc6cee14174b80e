package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/tidwall/gjson"
)

// byMQTT is a thermostat that is an MQTT client of the broker.
type byMQTT struct {
	things, commands string // topics of the Thing, with a slash at the end
	in               chan *paho.Publish
	up               chan *paho.Client // holds the connection while there is one that is subscribed
	answered         map[string]bool   // command executions
	version          int64             // of the newest delta
	working          chan gjson.Result
	updated          chan bool // whether the cloud has taken an update
}

func newMQTT() *byMQTT {
	thing := os.Getenv("THING")
	return &byMQTT{
		things: "$emqx/things/" + thing + "/", commands: "$emqx/commands/things/" + thing + "/executions/",
		in: make(chan *paho.Publish, 1000), up: make(chan *paho.Client, 1), answered: map[string]bool{}, working: make(chan gjson.Result, 100), updated: make(chan bool, 100),
	}
}

func (m *byMQTT) publish(ctx context.Context, topic, payload string) error {
	p := &paho.Publish{Topic: topic, Payload: []byte(payload), QoS: 1}
	if strings.HasSuffix(topic, "/shadow/update") {
		p.Retain = makes("retained")
		if makes("qos-0") {
			p.QoS = 0
		}
	}
	for { // until the broker has it
		select {
		case <-ctx.Done():
			return ctx.Err()
		case client := <-m.up:
			m.up <- client
			attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
			_, err := client.Publish(attempt, p)
			cancel()
			if err == nil {
				return nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// connect returns a connection that is subscribed.
func (m *byMQTT) connect(ctx context.Context, first bool) (*paho.Client, error) {
	server, err := url.Parse(os.Getenv("MQTT_URL"))
	if err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("tcp", server.Host, 5*time.Second)
	if err != nil {
		return nil, err
	}
	client := paho.NewClient(paho.ClientConfig{Conn: conn, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(r paho.PublishReceived) (bool, error) { m.in <- r.Packet; return true, nil },
	}})
	expiry := uint32(3600)
	if makes("clean-session") {
		expiry = 0
	}
	c := &paho.Connect{ClientID: os.Getenv("MQTT_CLIENT_ID"), KeepAlive: 20, CleanStart: first && makes("forgets-desired"), Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry}}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := client.Connect(ctx, c); err != nil {
		return nil, err
	}
	if _, err := client.Subscribe(ctx, &paho.Subscribe{Subscriptions: m.filters()}); err != nil {
		_ = client.Disconnect(&paho.Disconnect{})
		return nil, err
	}
	return client, nil
}

// stay connects, again and again, and tells each time.
func (m *byMQTT) stay(ctx context.Context, up chan<- struct{}) error {
	for first := true; ; {
		client, err := m.connect(ctx, first)
		if err != nil && ctx.Err() == nil && (makes("impatient") && first || makes("no-reconnect")) {
			return err
		}
		if err == nil {
			first = false
			m.up <- client
			up <- struct{}{}
			select {
			case <-client.Done():
				<-m.up
			case <-ctx.Done():
				_ = client.Disconnect(&paho.Disconnect{})
				return nil
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *byMQTT) report(ctx context.Context, state string) error {
	return m.publish(ctx, m.things+"shadow/update", state)
}

func (m *byMQTT) event(ctx context.Context, kind, payload string) error {
	return m.publish(ctx, m.things+"events/"+kind, payload)
}

func (m *byMQTT) run(ctx context.Context, t *thermostat) error {
	up, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() { ended <- m.stay(ctx, up) }()
	go m.jobs(ctx, t)
	for ups := 0; ; {
		select {
		case <-up:
			if ups++; ups == 1 {
				go func() { _ = t.tell(ctx) }()
			}
			if ups > 1 || !makes("forgets-job") {
				go func() { _ = m.publish(ctx, m.things+"jobs/start-next", `{"clientToken":"next"}`) }()
			}
		case p := <-m.in:
			m.take(ctx, t, p)
		case err := <-ended:
			return err
		}
	}
}

func (m *byMQTT) filters() (out []paho.SubscribeOptions) {
	all := []string{
		m.things + "shadow/update/delta", m.things + "jobs/notify-next", m.things + "jobs/start-next/accepted",
		m.things + "jobs/+/update/accepted", m.things + "jobs/+/update/rejected", m.commands + "+/request",
	}
	if makes("no-command-filter") {
		all = all[:len(all)-1]
	}
	for _, f := range all {
		out = append(out, paho.SubscribeOptions{Topic: f, QoS: 1})
	}
	return out
}

// take does what a message asks for. It must not wait for another one.
func (m *byMQTT) take(ctx context.Context, t *thermostat, p *paho.Publish) {
	doc, ok := object(p.Payload)
	if !ok {
		return
	}
	tail, ours := strings.CutPrefix(p.Topic, m.things)
	switch {
	case !ours:
		go m.command(ctx, t, strings.TrimSuffix(strings.TrimPrefix(p.Topic, m.commands), "/request"), doc, m.answered[p.Topic])
		m.answered[p.Topic] = true
	case tail == "shadow/update/delta":
		version := doc.Get("version")
		if version.Type != gjson.Number || version.Int() <= m.version && !makes("any-version") {
			return
		}
		m.version = max(m.version, version.Int())
		go func() { _ = t.apply(ctx, doc.Get("state")) }()
	case tail == "jobs/notify-next":
		go func() { _ = m.publish(ctx, m.things+"jobs/start-next", `{"clientToken":"next"}`) }()
	case tail == "jobs/start-next/accepted":
		if e := doc.Get("execution"); e.IsObject() {
			m.working <- e
		}
	case doc.Get("clientToken").String() == "update":
		m.updated <- strings.HasSuffix(tail, "/accepted")
	}
}

func (m *byMQTT) command(ctx context.Context, t *thermostat, id string, doc gjson.Result, known bool) {
	if known && !makes("no-memory") || makes("no-answer") {
		return
	}
	response := `{"status":"TIMED_OUT"}`
	issued, ttl := doc.Get("timestamp").Int(), doc.Get("ttl").Int()
	if ttl == 0 || issued+ttl > time.Now().Unix() || makes("no-clock") {
		response = t.serve(ctx, doc.Get("action").String(), doc.Get("params"))
	}
	_ = m.publish(ctx, m.commands+id+"/response", response)
	if makes("two-answers") {
		_ = m.publish(ctx, m.commands+id+"/response", `{"status":"SUCCEEDED","result":{"again":true}}`)
	}
}

// jobs does one after the other.
func (m *byMQTT) jobs(ctx context.Context, t *thermostat) {
	done := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-m.working:
			id := e.Get("jobId").String()
			if done[id] {
				continue
			}
			err := t.work(e.Get("jobDocument"), func(status string) error {
				expected := ""
				if makes("wrong-version") {
					expected = `,"expectedVersion":99`
				}
				if err := m.publish(ctx, m.things+"jobs/"+id+"/update", fmt.Sprintf(`{"status":%q,"clientToken":"update"%s}`, status, expected)); err != nil {
					return err
				}
				select {
				case taken := <-m.updated:
					if !taken {
						return fmt.Errorf("%s was not taken", status)
					}
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			done[id] = err == nil
			_ = m.publish(ctx, m.things+"jobs/start-next", `{"clientToken":"next"}`)
		}
	}
}
