//go:build realbroker

package gateway_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
	"fleetbridge/test/brokers"
)

// What only real brokers show. The log of the packets between bridge and broker is the judge: neither counts itself.
// test/brokers/matrix prints what these say as the attributes expected and seen.

const (
	eventTopic  = "$emqx/things/pump-07/events/n"
	notifyTopic = "$emqx/things/pump-07/jobs/notify"
	theCloud    = "fleets-simulator" // its client id
)

func ownBroker() siteOption { return func(o *siteOptions) { o.own = true } }

// real is the kind of the broker.
func real(t *testing.T) brokers.Kind {
	t.Helper()
	kind, is := brokers.Find(*brokerFlag)
	if !is {
		t.Skip("a real broker shows it")
	}
	return kind
}

// passage is what becomes of a client's numbered messages on one topic in one direction.
type passage struct {
	client string
	flow   fleetsim.Flow
	topic  string

	order  []int        // every PUBLISH
	acked  map[int]bool // with a PUBACK below 0x80
	flight map[flying]int
}

type flying struct {
	conn int
	id   uint16
}

func newPassage(client string, flow fleetsim.Flow, topic string) *passage {
	return &passage{client: client, flow: flow, topic: topic, acked: map[int]bool{}, flight: map[flying]int{}}
}

// of reads a log.
func (p *passage) of(log []brokers.Packet) *passage {
	for _, k := range log {
		p.see(k)
	}
	return p
}

func (p *passage) see(k brokers.Packet) {
	if k.Client != p.client {
		return
	}
	switch c := k.Content.(type) {
	case *packets.Publish:
		if k.Flow == p.flow && c.Topic == p.topic {
			n := numberOf(c.Payload)
			p.order, p.flight[flying{k.Conn, c.PacketID}] = append(p.order, n), n
		}
	case *packets.Puback:
		if n, is := p.flight[flying{k.Conn, c.PacketID}]; is && k.Flow != p.flow && c.ReasonCode < 0x80 {
			p.acked[n] = true
		}
	}
}

func numberOf(payload []byte) int {
	if n := gjson.GetBytes(payload, "data.n"); n.Exists() {
		return int(n.Int())
	}
	return int(gjson.GetBytes(payload, "n").Int())
}

// late counts first copies behind a higher number, and copies all further ones.
func late(order []int) (late, copies int) {
	seen, highest := map[int]bool{}, -1
	for _, n := range order {
		switch {
		case seen[n]:
			copies++
		case n < highest:
			late++
		}
		seen[n], highest = true, max(highest, n)
	}
	return late, copies
}

// notified reads what FLEETS_DOWN has of the notifications until that with the last number.
func (s *site) notified(last int) (order []int) {
	s.t.Helper()
	c, err := s.js.OrderedConsumer(s.context(), "FLEETS_DOWN", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"fleets.down.pump-07.jobs.notify"}})
	if err != nil {
		s.t.Fatal(err)
	}
	for {
		m, err := c.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			s.t.Fatalf("notification %d does not come: %v, after %d others", last, err, len(order))
		}
		n := numberOf(m.Data())
		if order = append(order, n); n == last {
			return order
		}
	}
}

// notify sends the notifications from..to-1 from the cloud, and returns when the broker has them.
func (s *site) notify(from, to int) {
	for n := from; n < to; n++ {
		if err := s.sim.Publish(notifyTopic, fmt.Appendf(nil, `{"n":%d}`, n), fleetsim.PublishOptions{}); err != nil {
			s.t.Error(err)
			return
		}
	}
	if err := s.sim.WaitSent(s.context()); err != nil {
		s.t.Error(err)
	}
}

// subscribedAfter waits until the Thing has subscribed and has the answer to its question, after this place of the log.
func (s *site) subscribedAfter(at int) {
	s.t.Helper()
	answer := map[flying]bool{}
	if err := s.tap.Wait(s.context(), at, func(k brokers.Packet) bool {
		switch c := k.Content.(type) {
		case *packets.Publish:
			if k.Flow == fleetsim.FromBroker && strings.HasPrefix(c.Topic, "$emqx/things/pump-07/jobs/get/") {
				answer[flying{k.Conn, c.PacketID}] = true
			}
		case *packets.Puback:
			return k.Client == "pump-07" && k.Flow == fleetsim.FromClient && answer[flying{k.Conn, c.PacketID}]
		}
		return false
	}); err != nil {
		s.t.Fatal("the Thing does not subscribe again, or the cloud does not answer it")
	}
}

// events publishes numbered events until some time after killed is closed, and tells how many the bridge has taken.
func (s *site) events(killed <-chan struct{}, sent chan<- int) {
	taken := 0
	defer func() { sent <- taken }()
	js, err := jetstream.New(s.nc, jetstream.WithPublishAsyncMaxPending(64))
	if err != nil {
		s.t.Error(err)
		return
	}
	var futures []jetstream.PubAckFuture
	for n, more := 0, 200; more > 0; n++ {
		select {
		case <-killed:
			more--
		default:
		}
		f, err := js.PublishAsync("fleets.up.pump-07.events.n", []byte(event(n)), jetstream.WithStallWait(patience))
		if err != nil {
			s.t.Error(err)
			break
		}
		futures = append(futures, f)
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
			taken++
		case err := <-f.Err():
			s.t.Error(err)
		}
	}
}

// A broker is killed with messages in flight both ways, and starts again with what it has kept.
func TestBrokerKilled(t *testing.T) {
	kind := real(t)
	t.Parallel()
	const downs = 1000
	s := open(t, ownBroker(), expect("connection lost", "cannot connect", "session", "jobs/get")) // which nobody answers when the broker has forgotten the cloud, too
	up, came := newPassage("pump-07", fleetsim.FromClient, eventTopic), newPassage("pump-07", fleetsim.FromBroker, notifyTopic)
	read := 0
	flows := func(ups, downs int) {
		if err := s.tap.Wait(s.context(), read, func(k brokers.Packet) bool {
			read++
			up.see(k)
			came.see(k)
			return len(up.acked) >= ups && len(came.acked) >= downs
		}); err != nil {
			t.Fatal("nothing flows")
		}
	}
	notified := make(chan struct{})
	go func() { s.notify(0, downs); close(notified) }()
	flows(0, 20)
	killed, sent := make(chan struct{}), make(chan int, 1)
	go s.events(killed, sent)
	flows(100, 50)
	if err := s.broker.Kill(); err != nil {
		t.Fatal(err)
	}
	close(killed)
	at := len(s.tap.Log())
	if len(newPassage("pump-07", fleetsim.FromBroker, notifyTopic).of(s.tap.Log()).order) >= downs {
		t.Error("all had come down before the broker was killed")
	}
	if err := s.broker.Start(s.context()); err != nil {
		t.Fatal(err)
	}
	ups := <-sent
	flows(ups, 0)
	s.ready()
	<-notified
	s.notify(downs, downs+1)
	stored := s.notified(downs)

	log := s.tap.Log()
	up, came = newPassage("pump-07", fleetsim.FromClient, eventTopic).of(log), newPassage("pump-07", fleetsim.FromBroker, notifyTopic).of(log)
	taken := newPassage(theCloud, fleetsim.FromClient, notifyTopic).of(log)
	lost := 0
	for n := range ups {
		if !up.acked[n] {
			lost++
		}
	}
	disorder, again := late(up.order)
	here := map[int]bool{}
	for _, n := range stored {
		here[n] = true
	}
	byBridge, byBroker := 0, 0
	for n := range downs {
		switch {
		case here[n]:
		case came.acked[n]:
			byBridge++
		case taken.acked[n]:
			byBroker++
		}
	}
	wire, _ := late(came.order)
	mixed, twice := late(stored)
	kept := false
	for _, p := range log[at:] {
		if c, is := p.Content.(*packets.Connack); is && p.Client == "pump-07" {
			kept = c.SessionPresent
			break
		}
	}
	t.Attr("expected", map[bool]string{true: "the broker keeps the session and all messages; the bridge loses none", false: "the broker may forget the session, and lose messages; the bridge loses none"}[kind.KeepsAtKill])
	t.Attr("seen", fmt.Sprintf("session kept: %t; %d up, lost %d, out of order %d, sent again %d; %d down, lost by the bridge %d, by the broker %d, out of order %d, twice %d",
		kept, ups, lost, disorder, again, downs, byBridge, byBroker, mixed, twice))
	if lost > 0 || disorder > 0 || byBridge > 0 {
		t.Error("the bridge has lost messages, or sent them out of order")
	}
	if mixed > 0 && wire == 0 {
		t.Error("what came in order was stored out of order")
	}
	if kind.KeepsAtKill && (!kept || byBroker > 0) {
		t.Error("the broker is not as test/brokers says")
	}
}

// mqtt.subscriptions changes while the broker keeps the session: every message comes once, whichever way it was changed.
func TestBrokerSubscriptionsChange(t *testing.T) {
	real(t)
	t.Parallel()
	s := open(t)
	gone := 0
	for _, set := range []string{gateway.SubscriptionsCompact, gateway.SubscriptionsExact, gateway.SubscriptionsCompact} {
		s.stop()
		at := len(s.tap.Log())
		s.cfg.MQTT.Subscriptions = set
		s.start()
		s.subscribedAfter(at)
		s.ready()
		topics := []string{notifyTopic, "$emqx/things/pump-07/jobs/get/accepted", "$emqx/things/pump-07/jobs/j/update/accepted", "$emqx/commands/things/pump-07/executions/e/request"}
		at = len(s.tap.Log())
		times := func(k brokers.Packet, topic string) int {
			if c, is := k.Content.(*packets.Publish); is && k.Client == "pump-07" && k.Flow == fleetsim.FromBroker && c.Topic == topic && strings.Contains(string(c.Payload), set) {
				return 1
			}
			return 0
		}
		for range 2 { // what comes twice has come when the next one has, as each subscription is in order
			for _, topic := range topics {
				s.down(topic, fmt.Sprintf(`{"action":"none","clientToken":"%s"}`, set), fleetsim.PublishOptions{})
			}
		}
		for _, topic := range topics {
			n := 0
			if err := s.tap.Wait(s.context(), at, func(k brokers.Packet) bool { n += times(k, topic); return n >= 2 }); err != nil {
				t.Errorf("%s: %s does not come", set, topic)
			}
		}
		for _, topic := range topics {
			n := 0
			for _, k := range s.tap.Log()[at:] {
				n += times(k, topic)
			}
			if n != 2 {
				t.Errorf("%s: two on %s came %d times", set, topic, n)
			}
		}
	}
	for _, p := range s.tap.Log() {
		if c, is := p.Content.(*packets.Unsubscribe); is {
			gone += len(c.Topics)
		}
	}
	t.Attr("expected", "every message comes once")
	t.Attr("seen", fmt.Sprintf("every message came once; %d filters unsubscribed in three changes", gone))
}

// 1,500 messages while the bridge is off.
func TestBrokerQueueWhileAway(t *testing.T) {
	kind := real(t)
	t.Parallel()
	const sent = 1500
	s := open(t, expect("cloud does not answer")) // a queue that is full takes the cloud's answer as little
	s.subscribedAfter(0)
	s.stop()
	s.notify(0, sent)
	s.start()
	s.ready()
	want := sent
	if kind.Queue > 0 {
		want = kind.Queue
	}
	s.notified(want - 1) // before it has come, the queue may be full, and the broker drops what is sent next
	s.notify(sent, sent+1)
	stored := s.notified(sent)
	mixed, twice := late(stored)
	t.Attr("expected", fmt.Sprintf("%d of %d come, the oldest", want, sent))
	t.Attr("seen", fmt.Sprintf("%d of %d came, the newest %d, out of order %d, twice %d", len(stored)-1, sent, stored[max(0, len(stored)-2)], mixed, twice))
	if len(stored) != want+1 || mixed > 0 || twice > 0 || stored[want-1] != want-1 {
		t.Errorf("%d came, want the first %d, in order", len(stored)-1, want)
	}
}

// Two bridges with one Thing: they don't kick each other out all the time, and what both have is sent.
func TestBrokerTwoBridges(t *testing.T) {
	kind := real(t)
	t.Parallel()
	const long = time.Minute
	most := 8 // connections of both together in that time
	if !kind.SaysTakeover {
		most = 30 // one in six seconds once the pauses have grown
	}
	s := open(t, expect("session taken over", "connection lost", "jobs/get"))
	other := open(t, withoutAPI(), edit(func(c *gateway.Config) { c.MQTT.Server = []string{s.tap.URL()} }), expect("connection lost", "taken over", "cannot connect", "jobs/get"))
	s.publish("fleets.up.pump-07.events.n", event(0))
	other.publish("fleets.up.pump-07.events.n", event(1))
	time.Sleep(long) // it is what is measured
	connects, codes := 0, map[byte]int{}
	for _, p := range s.tap.Log() {
		if p.Client != "pump-07" {
			continue
		}
		switch c := p.Content.(type) {
		case *packets.Connect:
			connects++
		case *packets.Disconnect:
			if p.Flow == fleetsim.FromBroker {
				codes[c.ReasonCode]++
			}
		}
	}
	says := map[bool]string{true: "the broker says 0x8E", false: "the broker closes without a word"}
	t.Attr("expected", fmt.Sprintf("%s; at most %d connections in %v", says[kind.SaysTakeover], most, long))
	t.Attr("seen", fmt.Sprintf("%s, %d connections", says[codes[0x8E] > 0], connects))
	if connects > most {
		t.Errorf("%d connections", connects)
	}
	if (codes[0x8E] > 0) != kind.SaysTakeover {
		t.Errorf("the broker's reasons are %v", codes)
	}
	s.arrives(eventTopic, event(0))
	s.arrives(eventTopic, event(1))
}

// A `+` in a filter matches a level with a dot, but for a broker of which test/brokers says that it does not.
func TestBrokerDots(t *testing.T) {
	kind := real(t)
	t.Parallel()
	s := open(t)
	s.down("$emqx/things/pump-07/jobs/a.b/get/accepted", `{}`, fleetsim.PublishOptions{})
	s.down("$emqx/things/pump-07/jobs/ab/get/accepted", `{}`, fleetsim.PublishOptions{})
	dots := false
	if err := s.tap.Wait(s.context(), 0, func(k brokers.Packet) bool {
		c, is := k.Content.(*packets.Publish)
		is = is && k.Client == "pump-07" && k.Flow == fleetsim.FromBroker
		dots = dots || is && strings.Contains(c.Topic, "a.b")
		return is && strings.Contains(c.Topic, "/ab/")
	}); err != nil {
		t.Fatal("nothing comes")
	}
	says := map[bool]string{true: "matches a level with a dot", false: "does not match a level with a dot"}
	t.Attr("expected", "+ "+says[!kind.HidesDots])
	t.Attr("seen", "+ "+says[dots])
	if dots == kind.HidesDots {
		t.Error("the broker is not as test/brokers says")
	}
}

// Clients may publish on topics that begin with $, or else the status has the broker's reason and the mend, and the broker is
// not connected to again and again.
func TestBrokerDollar(t *testing.T) {
	kind := real(t)
	t.Parallel()
	other := open(t)
	other.stop()
	bare, err := other.tap.Bare()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bare.Close)
	const halfMinute = 30 * time.Second
	s := open(t, withoutAPI(), startCut(), edit(func(c *gateway.Config) { c.MQTT.Server = []string{bare.URL()} }), expect("connection lost", "cannot connect", "messages wait", "jobs/get"))
	for n := range 3 {
		s.publish("fleets.up.pump-07.events.n", event(n))
	}
	refuses := kind.Prefix == "_"
	says := map[bool]string{true: "refuses $emqx/", false: "takes $emqx/"}
	t.Attr("expected", says[refuses]+map[bool]string{true: fmt.Sprintf(", at most 10 connections in %v", halfMinute)}[refuses])
	if !refuses {
		up := newPassage("pump-07", fleetsim.FromClient, eventTopic)
		if err := bare.Wait(s.context(), 0, func(k brokers.Packet) bool { up.see(k); return len(up.acked) == 3 }); err != nil {
			t.Fatal("the broker does not take them")
		}
		t.Attr("seen", says[false])
		return
	}
	s.status("pump-07", func(v string) bool {
		e := gjson.Get(v, "lastError").String()
		return strings.Contains(e, "DISCONNECT 0x82") && strings.Contains(e, "it must take topics that begin with $emqx/")
	})
	time.Sleep(halfMinute) // it is what is measured
	connects := 0
	for _, k := range bare.Log() {
		if _, is := k.Content.(*packets.Connect); is {
			connects++
		}
	}
	t.Attr("seen", fmt.Sprintf("%s, %d connections in %v", says[true], connects, halfMinute))
	if connects > 10 {
		t.Errorf("%d connections", connects)
	}
}
