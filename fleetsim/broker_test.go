package fleetsim_test

import (
	"crypto/tls"
	"net/http"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/gorilla/websocket"

	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

func newBroker(t *testing.T, o fleetsim.BrokerOptions) *fleetsim.Broker {
	t.Helper()
	o.Log = fleetsim.Log(t)
	b := must(fleetsim.NewBroker(o))(t)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestBrokerLogins(t *testing.T) {
	b := newBroker(t, fleetsim.BrokerOptions{Logins: []fleetsim.Login{{ClientID: name, Username: "u", Password: "p"}, {ClientID: "other", Username: "o", Password: "o"}}})
	for _, c := range []struct {
		login
		ok bool
	}{{login{"u", "p"}, true}, {login{"u", "x"}, false}, {login{"o", "o"}, false}, {login{}, false}} {
		_, ack, err := connect(t, b.URL(), c.login)
		if (err == nil) != c.ok || !c.ok && (ack == nil || ack.ReasonCode != 0x86) {
			t.Errorf("%+v: %v, %+v", c.login, err, ack)
		}
	}
	b.SetLogins()
	if _, _, err := connect(t, b.URL(), login{}); err != nil {
		t.Error(err)
	}
}

func TestBrokerDenies(t *testing.T) {
	b := newBroker(t, fleetsim.BrokerOptions{})
	b.DenyPublish("$emqx/things/+/events/#", 0x87)
	b.DenyPublish("$emqx/things/pump-07/jobs/get", 0x97)
	b.DenySubscribe(prefix+"jobs/notify", 0x87)
	b.DenySubscribe(prefix+"jobs/notify-next", 0x97)
	d := newDevice(t, b.URL())
	for i, f := range mapping.Filters(name, false) {
		want := map[string]byte{prefix + "jobs/notify": 0x87, prefix + "jobs/notify-next": 0x97}[f.Topic]
		if want == 0 {
			want = 1
		}
		if d.codes[i] != want {
			t.Errorf("SUBACK for %s: %#x, want %#x", f.Topic, d.codes[i], want)
		}
	}
	for topic, want := range map[string]byte{prefix + "events/a": 0x87, prefix + "jobs/get": 0x97, prefix + "jobs/start-next": 0x10, prefix + "jobs/notify-next": 0x10} {
		if r := d.send(topic, "{}"); r.ReasonCode != want {
			t.Errorf("PUBACK for %s: %#x, want %#x", topic, r.ReasonCode, want)
		}
	}
	b.AllowAll()
	if r := d.send(prefix+"events/a", "{}"); r.ReasonCode != 0x10 {
		t.Errorf("PUBACK after AllowAll: %#x", r.ReasonCode)
	}
	if d.subscribe(); d.codes[2] != 1 {
		t.Errorf("SUBACK after AllowAll: %#x", d.codes[2])
	}
	refused := 0
	for _, p := range b.Received() {
		if p.ClientID != name {
			t.Errorf("client id %q", p.ClientID)
		}
		if p.Refused != 0 {
			refused++
		}
	}
	if refused != 2 || len(b.Received()) != 5 {
		t.Errorf("%d refused of %d", refused, len(b.Received()))
	}
}

func TestBrokerCapabilities(t *testing.T) {
	b := newBroker(t, fleetsim.BrokerOptions{ReceiveMaximum: 7, MaximumPacketSize: 2000, MaximumQoS: 1, SessionExpiryMaximum: time.Minute})
	d, ack, err := connect(t, b.URL(), login{})
	if err != nil {
		t.Fatal(err)
	}
	p := ack.Properties
	if *p.ReceiveMaximum != 7 || *p.MaximumPacketSize != 2000 || *p.MaximumQoS != 1 || *p.SessionExpiryInterval != 60 {
		t.Errorf("CONNACK %+v", p)
	}
	_, err = d.client.Publish(deadline(t), &paho.Publish{Topic: "x", QoS: 1, Payload: make([]byte, 3000)})
	if err == nil {
		t.Error("a packet over the limit was acknowledged")
	}
}

func TestBrokerDisconnects(t *testing.T) {
	b := newBroker(t, fleetsim.BrokerOptions{})
	if err := b.Disconnect(name, 0x98); err == nil {
		t.Error("disconnected a client that was never there")
	}
	d := newDevice(t, b.URL())
	if err := b.WaitSubscribed(deadline(t), name, prefix+"jobs/notify"); err != nil {
		t.Fatal(err)
	}
	if err := b.Disconnect(name, 0x98); err != nil {
		t.Fatal(err)
	}
	<-d.client.Done()
	if err := b.WaitConnected(deadline(t), name, false); err != nil {
		t.Fatal(err)
	}
	_, ack, err := connect(t, b.URL(), login{})
	if err != nil || !ack.SessionPresent {
		t.Errorf("%+v, %v", ack, err)
	}
}

func TestBrokerTLSAndWebSocket(t *testing.T) {
	certificate := must(fleetsim.NewCertificate())(t)
	b := newBroker(t, fleetsim.BrokerOptions{TLS: certificate, WebSocket: true})
	conn := must(tls.Dial("tcp", b.TLSURL()[len("mqtts://"):], certificate.Client()))(t)
	if _, _, err := connectOver(t, conn, login{}); err != nil {
		t.Errorf("TLS: %v", err)
	}
	if c, err := tls.Dial("tcp", b.TLSURL()[len("mqtts://"):], &tls.Config{}); err == nil {
		_ = c.Close()
		t.Error("a client that does not know the certificate connected")
	}
	dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}}
	ws, response, err := dialer.Dial(b.WebSocketURL(), http.Header{})
	if err != nil {
		t.Fatal(err)
	}
	if got := response.Header.Get("Sec-Websocket-Protocol"); got != "mqtt" {
		t.Errorf("subprotocol %q", got)
	}
	_ = ws.Close()
	// The simulator's own client speaks WebSocket too.
	sim := start(t, fleetsim.Options{Broker: b.WebSocketURL()})
	newDevice(t, b.URL()).send(prefix+"events/a", `{"eventType":"a","severity":"info"}`)
	must(sim.WaitEvents(deadline(t), name, 1))(t)
}
