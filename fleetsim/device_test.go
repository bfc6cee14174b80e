package fleetsim_test

import (
	"context"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/tidwall/gjson"

	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

const name = "pump-07"

const prefix = "$emqx/things/" + name + "/"

// patience is how long a test waits for what should happen at once; a machine that is busy besides needs some of it.
const patience = 2 * time.Minute

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// device is a plain MQTT 5 client that does nothing by itself.
type device struct {
	t      *testing.T
	client *paho.Client
	in     chan *paho.Publish
	codes  []byte
}

type login struct{ user, password string }

func connect(t *testing.T, broker string, l login) (*device, *paho.Connack, error) {
	t.Helper()
	u, err := url.Parse(broker)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.Dialer{}).DialContext(deadline(t), "tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	return connectOver(t, conn, l)
}

func connectOver(t *testing.T, conn net.Conn, l login) (*device, *paho.Connack, error) {
	t.Helper()
	d := &device{t: t, in: make(chan *paho.Publish, 1000)}
	d.client = paho.NewClient(paho.ClientConfig{Conn: conn, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(r paho.PublishReceived) (bool, error) { d.in <- r.Packet; return true, nil },
	}})
	expiry := uint32(600)
	c := &paho.Connect{ClientID: name, KeepAlive: 30, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry, RequestProblemInfo: true}}
	if l.user != "" {
		c.UsernameFlag, c.Username, c.PasswordFlag, c.Password = true, l.user, true, []byte(l.password)
	}
	ack, err := d.client.Connect(deadline(t), c)
	if err == nil {
		t.Cleanup(func() { _ = d.client.Disconnect(&paho.Disconnect{}) })
	}
	return d, ack, err
}

// newDevice connects and subscribes to the page's 13 filters.
func newDevice(t *testing.T, broker string) *device {
	t.Helper()
	d, _, err := connect(t, broker, login{})
	if err != nil {
		t.Fatal(err)
	}
	d.subscribe()
	return d
}

func (d *device) subscribe() {
	d.t.Helper()
	var subs []paho.SubscribeOptions
	for _, f := range mapping.Filters(name, false) {
		subs = append(subs, paho.SubscribeOptions{Topic: f.Topic, QoS: 1, NoLocal: f.NoLocal})
	}
	ack, err := d.client.Subscribe(deadline(d.t), &paho.Subscribe{Subscriptions: subs})
	if ack == nil {
		d.t.Fatal(err)
	}
	d.codes = ack.Reasons
}

func (d *device) send(topic, payload string) *paho.PublishResponse {
	d.t.Helper()
	r, err := d.client.Publish(deadline(d.t), &paho.Publish{Topic: topic, Payload: []byte(payload), QoS: 1})
	if r == nil {
		d.t.Fatal(err)
	}
	return r
}

// receiveTopic waits for a message on a topic that ends so, and drops what comes before it.
func (d *device) receiveTopic(suffix string) *paho.Publish {
	d.t.Helper()
	for {
		if p := d.packet(); strings.HasSuffix(p.Topic, suffix) {
			return p
		}
	}
}

// receive returns the next message on a topic that ends so, and drops what comes before it.
func (d *device) receive(suffix string) gjson.Result {
	d.t.Helper()
	p := d.receiveTopic(suffix)
	if !gjson.ValidBytes(p.Payload) {
		d.t.Fatalf("%s: not JSON: %q", p.Topic, p.Payload)
	}
	return gjson.ParseBytes(p.Payload)
}

func (d *device) packet() *paho.Publish {
	d.t.Helper()
	select {
	case p := <-d.in:
		return p
	case <-deadline(d.t).Done():
		d.t.Fatal("no message arrived")
		return nil
	}
}

// ask sends a jobs question and returns the answer on the topic that ends with the suffix.
func (d *device) ask(tail, payload, suffix string) gjson.Result {
	d.t.Helper()
	d.send(prefix+tail, payload)
	return d.receive(tail + "/" + suffix)
}

func start(t *testing.T, o fleetsim.Options, expected ...fleetsim.Expectation) *fleetsim.Sim {
	t.Helper()
	if o.Things == nil {
		o.Things = []string{name}
	}
	o.Log = fleetsim.Log(t, expected...)
	return fleetsim.Start(t, o)
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantFields(t *testing.T, doc gjson.Result, want map[string]string) {
	t.Helper()
	for path, raw := range want {
		if got := doc.Get(path).Raw; got != raw {
			t.Errorf("%s: %s, want %s, in %s", path, got, raw, doc.Raw)
		}
	}
}
