package fleetsim_test

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/eclipse/paho.golang/packets"

	"fleetbridge/fleetsim"
)

// raw is a connection to a broker that does nothing by itself.
type raw struct{ net.Conn }

// connectRaw connects with a session that lasts; a Receive Maximum of 0 leaves it out.
func connectRaw(t *testing.T, broker, clientID string, receiveMaximum uint16) raw {
	t.Helper()
	r, answer := dialRaw(t, broker, clientID, receiveMaximum)
	if answer.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", answer.ReasonCode)
	}
	return r
}

// dialRaw does so, and returns the answer, whatever it is.
func dialRaw(t *testing.T, broker, clientID string, receiveMaximum uint16) (raw, *packets.Connack) {
	t.Helper()
	u := must(url.Parse(broker))(t)
	r := raw{must(net.Dial("tcp", u.Host))(t)}
	t.Cleanup(func() { _ = r.Close() })
	end, _ := deadline(t).Deadline()
	if err := r.SetDeadline(end); err != nil {
		t.Fatal(err)
	}
	p := packets.NewControlPacket(packets.CONNECT)
	c, expiry := p.Content.(*packets.Connect), uint32(600)
	c.ClientID, c.KeepAlive, c.Properties.SessionExpiryInterval = clientID, 60, &expiry
	if receiveMaximum > 0 {
		c.Properties.ReceiveMaximum = &receiveMaximum
	}
	if _, err := p.WriteTo(r); err != nil {
		t.Fatal(err)
	}
	answer, err := packets.ReadPacket(r)
	if err != nil || answer.Type != packets.CONNACK {
		t.Fatalf("in answer to CONNECT came %v, %v", answer, err)
	}
	return r, answer.Content.(*packets.Connack)
}

// ask writes a packet and reads the answer, which must come next and be of the type.
func (r raw) ask(p *packets.ControlPacket, answer byte) error {
	if _, err := p.WriteTo(r); err != nil {
		return err
	}
	got, err := packets.ReadPacket(r)
	if err == nil && got.Type != answer {
		err = fmt.Errorf("in answer to %s came %v", p.PacketType(), got)
	}
	return err
}

// publish publishes messages with the numbers from 0 on, each after the PUBACK of the one before.
func (r raw) publish(publisher, n int) error {
	for i := range n {
		p := packets.NewControlPacket(packets.PUBLISH)
		m := p.Content.(*packets.Publish)
		m.Topic, m.QoS, m.PacketID, m.Payload = topic, 1, uint16(i+1), payload(publisher, i)
		if err := r.ask(p, packets.PUBACK); err != nil {
			return err
		}
	}
	return nil
}

// topic makes the length of a PUBLISH one of two bytes.
var topic = "in/" + strings.Repeat("x", 200)

func payload(publisher, number int) []byte { return fmt.Appendf(nil, "%d/%d", publisher, number) }

// receiver acknowledges when it is told to, and knows what is due.
type receiver struct {
	t *testing.T
	raw
	maximum int
	unacked []uint16
	next    map[string]int // by publisher
}

// newReceiver connects and subscribes.
func newReceiver(t *testing.T, broker string, maximum int) *receiver {
	t.Helper()
	r := &receiver{t: t, raw: connectRaw(t, broker, name, uint16(maximum)), maximum: maximum, next: map[string]int{}}
	p := packets.NewControlPacket(packets.SUBSCRIBE)
	s := p.Content.(*packets.Subscribe)
	s.PacketID, s.Subscriptions = 1, []packets.SubOptions{{Topic: "in/#", QoS: 1}}
	if err := r.ask(p, packets.SUBACK); err != nil {
		t.Fatal(err)
	}
	return r
}

// receive reads messages; each must be the next of its publisher, and there must be room for it.
func (r *receiver) receive(n int) {
	r.t.Helper()
	for range n {
		p, err := packets.ReadPacket(r)
		if err != nil {
			r.t.Fatalf("%v, next are %v", err, r.next)
		}
		m, ok := p.Content.(*packets.Publish)
		if !ok {
			r.t.Fatalf("instead of a PUBLISH came %v", p)
		}
		publisher, number, _ := strings.Cut(string(m.Payload), "/")
		if number != strconv.Itoa(r.next[publisher]) {
			r.t.Fatalf("%s came when %d was due", m.Payload, r.next[publisher])
		}
		r.next[publisher]++
		if m.QoS > 0 {
			r.unacked = append(r.unacked, m.PacketID)
		}
		if len(r.unacked) > r.maximum {
			r.t.Fatalf("%d messages are unacknowledged", len(r.unacked))
		}
	}
}

func (r *receiver) acknowledge(n int) {
	r.t.Helper()
	for _, id := range r.unacked[:n] {
		p := packets.NewControlPacket(packets.PUBACK)
		p.Content.(*packets.Puback).PacketID = id
		if _, err := p.WriteTo(r); err != nil {
			r.t.Fatal(err)
		}
	}
	r.unacked = r.unacked[n:]
}

// hold checks that the broker answers, and has no message to send before that.
func (r *receiver) hold() {
	r.t.Helper()
	if err := r.ask(packets.NewControlPacket(packets.PINGREQ), packets.PINGRESP); err != nil {
		r.t.Fatalf("%v, %d messages are unacknowledged", err, len(r.unacked))
	}
}

func publish(t *testing.T, b *fleetsim.Broker, qos byte, numbers ...int) {
	t.Helper()
	for _, i := range numbers {
		if _, err := b.Publish(fleetsim.Publish{Topic: topic, QoS: qos, Payload: payload(0, i)}); err != nil {
			t.Error(err)
		}
	}
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// Many who publish fast to one slow client do not stop the broker, nor exceed the client's Receive
// Maximum, and every message arrives, in its publisher's order.
func TestBrokerKeepsToReceiveMaximum(t *testing.T) {
	const publishers, each = 4, 1500
	b := newBroker(t, fleetsim.BrokerOptions{})
	r := newReceiver(t, b.URL(), 20)
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { publish(t, b, 1, upTo(each)...) }) // in the name of the cloud
	for publisher := 1; publisher < publishers; publisher++ {
		client := connectRaw(t, b.URL(), fmt.Sprint("publisher-", publisher), 0)
		all.Go(func() {
			if err := client.publish(publisher, each); err != nil {
				t.Error(err)
			}
		})
	}
	for full, left := 0, publishers*each; left > 0; full++ {
		n := min(left, r.maximum-len(r.unacked))
		r.receive(n)
		left -= n
		if full%10 == 0 {
			r.hold()
		}
		if left > 0 {
			r.acknowledge(1 + full%r.maximum)
		}
	}
	r.acknowledge(len(r.unacked))
	r.hold()
}

// A client that acknowledges nothing holds up neither the publisher nor itself, and gets what it has
// not acknowledged, and what came while it was away, in order when it is back.
func TestBrokerKeepsWhatIsNotAcknowledged(t *testing.T) {
	b := newBroker(t, fleetsim.BrokerOptions{})
	r := newReceiver(t, b.URL(), 20)
	publish(t, b, 1, upTo(200)...)
	r.receive(20)
	r.hold()
	r.acknowledge(5)
	r.receive(5)
	r.hold()
	_ = r.Close()
	if err := b.WaitConnected(deadline(t), name, false); err != nil {
		t.Fatal(err)
	}
	publish(t, b, 1, upTo(300)[200:]...)
	*r = receiver{t: t, raw: connectRaw(t, b.URL(), name, 10), maximum: 10, next: map[string]int{"0": 5}}
	r.receive(10)
	r.hold()
	publish(t, b, 1, upTo(400)[300:]...)
	for r.next["0"] < 400 {
		r.acknowledge(1)
		r.receive(1)
	}
}

// Messages of QoS 0 use no room, and do not overtake.
func TestBrokerKeepsOrderOverQoS(t *testing.T) {
	b := newBroker(t, fleetsim.BrokerOptions{})
	r := newReceiver(t, b.URL(), 1)
	for i := range 6 {
		publish(t, b, byte(1-i%2), i)
	}
	for range 2 {
		r.receive(2)
		r.hold()
		r.acknowledge(1)
	}
	r.receive(2)
}
