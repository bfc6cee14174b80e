package fleetsim_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"fleetbridge/fleetsim"
)

func likeBroker(t *testing.T, text string) *fleetsim.Broker {
	t.Helper()
	return newBroker(t, fleetsim.BrokerOptions{Like: must(fleetsim.Like(text))(t)})
}

func TestLike(t *testing.T) {
	for _, name := range fleetsim.Likes() {
		if _, err := fleetsim.Like(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	got := must(fleetsim.Like("emqx-5.8,max-queue=5,deny-action=disconnect,flapping=15/1m/5m"))(t)
	if got.ReceiveMaximum != 32 || got.MaxQueue != 5 || !got.DropOldest || !got.DenyDisconnects ||
		got.Flapping != (fleetsim.Flapping{Count: 15, Within: time.Minute, For: 5 * time.Minute}) {
		t.Errorf("%+v", got)
	}
	for text, want := range map[string]string{
		"": "emqx-5.8", "rabbitmq": `"rabbitmq" is no broker`, "emqx-6,nosuch=1": `"nosuch" is no knob`, "max-queue": "write max-queue=N",
		"max-queue=x": `"x" is no number`, "keep-window=1": "takes no value", "drop=all": "none of its words", "retry-interval=3": "no duration",
		"flapping=3": "COUNT/WITHIN/BAN", "login-refusal=256": "0 to 255", "deny-publish=": "is empty",
	} {
		if _, err := fleetsim.Like(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// connack is what the broker answers to a CONNECT.
func connack(t *testing.T, b *fleetsim.Broker) *packets.Connack {
	t.Helper()
	r, answer := dialRaw(t, b.URL(), name, 0)
	defer r.Close()
	return answer
}

// kind reads on to the next packet of a type.
func (r raw) kind(t *testing.T, want byte) *packets.ControlPacket {
	t.Helper()
	for {
		p, err := packets.ReadPacket(r)
		if err != nil {
			t.Fatalf("waiting for a packet of type %d: %v", want, err)
		}
		if p.Type == want {
			return p
		}
	}
}

func (r raw) subscribe(t *testing.T, filters ...string) []byte {
	t.Helper()
	p := packets.NewControlPacket(packets.SUBSCRIBE)
	s := p.Content.(*packets.Subscribe)
	s.PacketID = 1
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, packets.SubOptions{Topic: f, QoS: 1})
	}
	if _, err := p.WriteTo(r); err != nil {
		t.Fatal(err)
	}
	return r.kind(t, packets.SUBACK).Content.(*packets.Suback).Reasons
}

// bodies reads n messages, and acknowledges them if it is told to.
func (r raw) bodies(t *testing.T, n int, acknowledge bool) (out []string) {
	t.Helper()
	for range n {
		m := r.kind(t, packets.PUBLISH).Content.(*packets.Publish)
		out = append(out, string(m.Payload))
		if !acknowledge {
			continue
		}
		p := packets.NewControlPacket(packets.PUBACK)
		p.Content.(*packets.Puback).PacketID = m.PacketID
		if _, err := p.WriteTo(r); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// send publishes messages from..to-1 to the device.
func send(t *testing.T, b *fleetsim.Broker, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if _, err := b.Publish(fleetsim.Publish{Topic: "in/x", QoS: 1, Payload: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
}

func numbers(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

func TestLikeConnack(t *testing.T) {
	a := connack(t, likeBroker(t, "emqx-5.8"))
	if a.Properties.ReceiveMaximum == nil || *a.Properties.ReceiveMaximum != 32 || a.Properties.MaximumPacketSize == nil || *a.Properties.MaximumPacketSize != 1<<20 {
		t.Errorf("%+v", a.Properties)
	}
	b := newBroker(t, fleetsim.BrokerOptions{Like: must(fleetsim.Like("mosquitto"))(t), Logins: []fleetsim.Login{{Username: "u"}}})
	if a := connack(t, b); a.ReasonCode != 0x87 {
		t.Errorf("a wrong login is refused with %#x", a.ReasonCode)
	}
}

// A full queue drops in silence, of a client that is away and of one that is slow; the session stays.
func TestLikeQueue(t *testing.T) {
	for _, c := range []struct {
		drop       string
		away, slow []string
	}{
		{"oldest", numbers(7, 12), append(numbers(0, 3), numbers(7, 12)...)},
		{"newest", numbers(0, 5), append(numbers(0, 3), numbers(3, 8)...)},
	} {
		b := likeBroker(t, "max-inflight=3,max-queue=5,drop="+c.drop)
		r := connectRaw(t, b.URL(), name, 0)
		r.subscribe(t, "in/#")
		send(t, b, 0, 3)
		r.bodies(t, 3, false) // in flight
		send(t, b, 3, 12)
		if err := r.ask(packets.NewControlPacket(packets.PINGREQ), packets.PINGRESP); err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		if err := b.WaitConnected(deadline(t), name, false); err != nil {
			t.Fatal(err)
		}
		r, answer := dialRaw(t, b.URL(), name, 0)
		if got := r.bodies(t, len(c.slow), true); !answer.SessionPresent || !slices.Equal(got, c.slow) {
			t.Errorf("drop=%s, slow: session present %t, %q, want %q", c.drop, answer.SessionPresent, got, c.slow)
		}
		if err := r.ask(packets.NewControlPacket(packets.PINGREQ), packets.PINGRESP); err != nil { // the PUBACKs are read
			t.Fatal(err)
		}
		_ = r.Close()
		if err := b.WaitConnected(deadline(t), name, false); err != nil {
			t.Fatal(err)
		}
		send(t, b, 0, 12)
		r = connectRaw(t, b.URL(), name, 0)
		if got := r.bodies(t, len(c.away), true); !slices.Equal(got, c.away) {
			t.Errorf("drop=%s, away: %q, want %q", c.drop, got, c.away)
		}
		if err := r.ask(packets.NewControlPacket(packets.PINGREQ), packets.PINGRESP); err != nil {
			t.Errorf("drop=%s: %v", c.drop, err) // a message too many
		}
	}
}

// What a session began with holds until it ends, or not.
func TestLikeKeepWindow(t *testing.T) {
	for like, want := range map[string]int{"max-inflight=4,keep-window": 4, "max-inflight=4": 2} {
		b := likeBroker(t, like)
		r := connectRaw(t, b.URL(), name, 0)
		r.subscribe(t, "in/#")
		_ = r.Close()
		if err := b.WaitConnected(deadline(t), name, false); err != nil {
			t.Fatal(err)
		}
		r = connectRaw(t, b.URL(), name, 2)
		if err := r.ask(packets.NewControlPacket(packets.PINGREQ), packets.PINGRESP); err != nil { // the broker has gone through the session
			t.Fatal(err)
		}
		send(t, b, 0, 6)
		r.bodies(t, want, false)
		if err := r.ask(packets.NewControlPacket(packets.PINGREQ), packets.PINGRESP); err != nil {
			t.Errorf("%s: %v", like, err)
		}
	}
}

func TestLikeQuotaOfFilters(t *testing.T) {
	b := likeBroker(t, "max-subscriptions=2")
	r := connectRaw(t, b.URL(), name, 0)
	if got := r.subscribe(t, "a", "b", "c"); !bytes.Equal(got, []byte{1, 1, 0x97}) {
		t.Errorf("%x", got)
	}
	_ = r.Close()
	r = connectRaw(t, b.URL(), name, 0) // takes the session over
	if got := r.subscribe(t, "b", "c", "a"); !bytes.Equal(got, []byte{1, 0x97, 1}) {
		t.Errorf("over a kept session: %x", got)
	}
}

func TestLikeDenials(t *testing.T) {
	b := likeBroker(t, "emqx-6,deny-publish=secret/#")
	r := connectRaw(t, b.URL(), name, 0)
	if got := r.subscribe(t, "#", "a", "+/#"); !bytes.Equal(got, []byte{0x87, 1, 0x87}) {
		t.Errorf("%x", got)
	}
	for _, action := range []func(raw){
		func(r raw) {
			p := packets.NewControlPacket(packets.PUBLISH)
			m := p.Content.(*packets.Publish)
			m.Topic, m.QoS, m.PacketID = "secret/x", 1, 7
			_, _ = p.WriteTo(r)
		},
		func(r raw) {
			p := packets.NewControlPacket(packets.SUBSCRIBE)
			s := p.Content.(*packets.Subscribe)
			s.PacketID, s.Subscriptions = 1, []packets.SubOptions{{Topic: "#", QoS: 1}}
			_, _ = p.WriteTo(r)
		},
	} {
		b := likeBroker(t, "emqx-6,deny-publish=secret/#,deny-action=disconnect")
		r := connectRaw(t, b.URL(), name, 0)
		action(r)
		if d := r.kind(t, packets.DISCONNECT).Content.(*packets.Disconnect); d.ReasonCode != 0x87 {
			t.Errorf("DISCONNECT %#x", d.ReasonCode)
		}
	}
}

func TestLikeRestart(t *testing.T) {
	for like, kept := range map[string]bool{"emqx-5.8": false, "mosquitto": true} {
		b := likeBroker(t, like)
		r := connectRaw(t, b.URL(), name, 0)
		r.subscribe(t, "in/#")
		b.Restart()
		if p, err := packets.ReadPacket(r); err == nil {
			t.Errorf("%s says %v when it stops", like, p)
		}
		send(t, b, 0, 1)
		if r, a := dialRaw(t, b.URL(), name, 0); a.SessionPresent != kept {
			t.Errorf("%s: session present %t", like, a.SessionPresent)
		} else if kept {
			r.bodies(t, 1, true)
		}
	}
}

func TestLikeTakeover(t *testing.T) {
	for like, word := range map[string]bool{"emqx-5.3": true, "mosquitto": false} {
		b := likeBroker(t, like)
		r := connectRaw(t, b.URL(), name, 0)
		connectRaw(t, b.URL(), name, 0)
		p, err := packets.ReadPacket(r)
		if said := err == nil && p.Type == packets.DISCONNECT && p.Content.(*packets.Disconnect).ReasonCode == 0x8E; said != word {
			t.Errorf("%s: %v, %v", like, p, err)
		}
	}
}

func TestLikeFlapping(t *testing.T) {
	b := likeBroker(t, "flapping=3/1h/1h")
	for i := range 4 {
		want := byte(0)
		if i == 3 {
			want = 0x8A
		}
		if a := connack(t, b); a.ReasonCode != want {
			t.Errorf("connection %d is answered %#x", i, a.ReasonCode)
		}
	}
}

// A burst ends connection and session, without a word.
func TestLikeBurst(t *testing.T) {
	b := likeBroker(t, "burst=20")
	r := connectRaw(t, b.URL(), name, 0)
	r.subscribe(t, "in/#")
	send(t, b, 0, 1000)
	for {
		p, err := packets.ReadPacket(r)
		if err != nil {
			break
		}
		if p.Type != packets.PUBLISH {
			t.Fatal(p)
		}
	}
	if a := connack(t, b); a.SessionPresent {
		t.Error("the session is still there")
	}
}

func TestLikeResends(t *testing.T) {
	b := likeBroker(t, "retry-interval=50ms")
	r := connectRaw(t, b.URL(), name, 0)
	r.subscribe(t, "in/#")
	send(t, b, 0, 2)
	first := r.bodies(t, 2, false)
	for want := range 2 {
		p := r.kind(t, packets.PUBLISH)
		if m := p.Content.(*packets.Publish); !m.Duplicate || string(m.Payload) != first[want] {
			t.Errorf("%v", p)
		}
	}
}

// Kick, ban and restart, as an administrator has them over HTTP.
func TestBrokerAPI(t *testing.T) {
	sim := start(t, fleetsim.Options{})
	call := func(method, path, body string, want int) {
		t.Helper()
		q := must(http.NewRequestWithContext(deadline(t), method, sim.HTTPURL()+path, strings.NewReader(body)))(t)
		answer := must(http.DefaultClient.Do(q))(t)
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s %s: %s", method, path, answer.Status)
		}
	}
	r := connectRaw(t, sim.BrokerURL(), name, 0)
	r.subscribe(t, "in/#")
	call("DELETE", "/api/v5/clients/nobody", "", 404)
	call("DELETE", "/api/v5/clients/"+name, "", 200)
	if d := r.kind(t, packets.DISCONNECT).Content.(*packets.Disconnect); d.ReasonCode != 0x98 {
		t.Errorf("DISCONNECT %#x", d.ReasonCode)
	}
	if a := connack(t, sim.Broker()); a.SessionPresent {
		t.Error("a kick leaves the session")
	}
	call("POST", "/api/v5/banned", `{"as":"username","who":"x"}`, 422)
	call("POST", "/api/v5/banned", `{"as":"clientid","who":"pump-07","until":"soon"}`, 422)
	call("POST", "/api/v5/banned", `{"as":"clientid","who":"pump-07"}`, 200)
	if a := connack(t, sim.Broker()); a.ReasonCode != 0x8A {
		t.Errorf("a banned client is answered %#x", a.ReasonCode)
	}
	call("DELETE", "/api/v5/banned/clientid/"+name, "", 200)
	r = connectRaw(t, sim.BrokerURL(), name, 0)
	call("POST", "/api/v1/broker/restart", "", 200)
	if d := r.kind(t, packets.DISCONNECT).Content.(*packets.Disconnect); d.ReasonCode != 0x8B {
		t.Errorf("DISCONNECT %#x", d.ReasonCode)
	}
}
