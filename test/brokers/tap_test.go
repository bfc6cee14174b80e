package brokers

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"fleetbridge/fleetsim"
)

// Clients in one namespace have the broker for themselves, and see nothing of the namespace; the log is as they see it.
func TestNamespaces(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	broker, err := fleetsim.NewBroker(fleetsim.BrokerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	const topic = "$emqx/things/a/events/n"
	taps, came := [2]*Tap{}, make(chan string, 10)
	for i, space := range []string{"_0001", "$0002"} {
		tap, err := NewTap(broker.URL(), space)
		if err != nil {
			t.Fatal(err)
		}
		defer tap.Close()
		taps[i] = tap
		c, err := net.Dial("tcp", strings.TrimPrefix(tap.URL(), "mqtt://"))
		if err != nil {
			t.Fatal(err)
		}
		client := paho.NewClient(paho.ClientConfig{Conn: c, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(p paho.PublishReceived) (bool, error) {
				came <- space + " " + p.Packet.Topic + " " + string(p.Packet.Payload)
				return true, nil
			}}})
		if _, err := client.Connect(ctx, &paho.Connect{ClientID: "a", KeepAlive: 30, CleanStart: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "$emqx/things/+/events/+", QoS: 1}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(topic + " of " + space)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, space := range []string{"_0001", "$0002"} {
		select {
		case got := <-came:
			if want := space + " " + topic + " " + topic + " of " + space; got != want {
				t.Errorf("%q came, want %q", got, want)
			}
		case <-ctx.Done():
			t.Fatal("nothing comes")
		}
	}
	if !broker.Connected("a-0001") || !broker.Connected("a-0002") {
		t.Error("one client has taken the session of the other")
	}
	for _, tap := range taps {
		if got := tap.Published(topic); len(got) != 1 {
			t.Errorf("%d in the log", len(got))
		}
		if err := tap.Wait(ctx, 0, func(k Packet) bool {
			c, is := k.Content.(*packets.Publish)
			return is && k.Flow == fleetsim.FromBroker && k.Client == "a" && c.Topic == topic
		}); err != nil {
			t.Error("what came is not in the log")
		}
	}
}
