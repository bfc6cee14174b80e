package soak

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// Cloud is the other side of the broker: an MQTT client with a session that lasts. It hears what
// Things publish, and publishes to them; what it publishes counts as taken at the broker's PUBACK
// and not before.
type Cloud struct {
	host  string
	id    string
	heard func(*packets.Publish)

	signal
	up   *paho.Client // nil while not connected
	stop context.CancelFunc
	all  sync.WaitGroup
}

// cloudFilters are what Things publish in these scenarios.
var cloudFilters = []paho.SubscribeOptions{
	{Topic: "$emqx/things/+/events/+", QoS: 1},
	{Topic: "$emqx/things/+/shadow/update", QoS: 1},
	{Topic: "$emqx/commands/things/+/executions/+/response", QoS: 1},
	{Topic: "$emqx/things/+/jobs/+/update", QoS: 1},
}

// NewCloud connects, and goes on connecting until Close. heard is called in order.
func NewCloud(broker, id string, heard func(*packets.Publish)) (*Cloud, error) {
	u, err := url.Parse(broker)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Cloud{host: u.Host, id: id, heard: heard, stop: stop}
	c.all.Go(func() { c.run(ctx) })
	return c, nil
}

// Close disconnects.
func (c *Cloud) Close() {
	c.stop()
	c.all.Wait()
}

// Ready waits until it is connected and subscribed.
func (c *Cloud) Ready(ctx context.Context) error {
	return c.wait(ctx, func() bool { return c.up != nil })
}

func (c *Cloud) run(ctx context.Context) {
	for ctx.Err() == nil {
		if p, err := c.connect(ctx); err == nil {
			c.set(p)
			select {
			case <-p.Done():
			case <-ctx.Done():
				_ = p.Disconnect(&paho.Disconnect{})
				<-p.Done()
			}
			c.set(nil)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (c *Cloud) set(p *paho.Client) {
	c.Lock()
	defer c.Unlock()
	c.up = p
	c.notify()
}

func (c *Cloud) connect(ctx context.Context) (*paho.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.host)
	if err != nil {
		return nil, err
	}
	p := paho.NewClient(paho.ClientConfig{Conn: conn, PacketTimeout: 5 * time.Second, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(r paho.PublishReceived) (bool, error) {
			c.heard(r.Packet.Packet())
			return true, nil
		},
	}})
	expiry := uint32(3600)
	if _, err := p.Connect(ctx, &paho.Connect{ClientID: c.id, KeepAlive: 30, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry}}); err != nil {
		return nil, err
	}
	if _, err := p.Subscribe(ctx, &paho.Subscribe{Subscriptions: cloudFilters}); err != nil {
		_ = p.Disconnect(&paho.Disconnect{})
		return nil, err
	}
	return p, nil
}

// Publish hands a message to the broker once and returns when the broker has acknowledged it. After
// an error nobody knows whether it has it. A broker where nobody is subscribed has not taken it.
func (c *Cloud) Publish(ctx context.Context, topic string, payload []byte) error {
	if err := c.Ready(ctx); err != nil {
		return err
	}
	c.Lock()
	p := c.up
	c.Unlock()
	if p == nil {
		return fmt.Errorf("not connected")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	go func() { // paho does not wake the callers of a lost connection
		select {
		case <-p.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	answer, err := p.Publish(ctx, &paho.Publish{Topic: topic, Payload: payload, QoS: 1})
	switch {
	case err != nil:
		return err
	case answer.ReasonCode != 0:
		return fmt.Errorf("PUBACK 0x%02X", answer.ReasonCode)
	}
	return nil
}
