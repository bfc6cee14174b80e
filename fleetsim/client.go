package fleetsim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/gorilla/websocket"

	"fleetbridge/mapping"
)

// client is the wire to an external broker: an ordinary MQTT 5 client with a session that lasts, so
// that nothing is lost while the broker restarts with its memory.
type client struct {
	url      *url.URL
	options  Options
	log      *slog.Logger
	received func(Publish)

	monitor
	up *paho.Client // nil while not connected and subscribed
}

// Pauses between connection attempts.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// ackPatience is how long a PUBACK may take before the message is sent again.
const ackPatience = 5 * time.Second

// sessionExpiry is how many seconds the broker shall keep the session of a simulator that is away.
var sessionExpiry = uint32(3600)

func newClient(o Options, log *slog.Logger, received func(Publish)) (*client, error) {
	u, err := ParseBroker(o.Broker)
	if err != nil {
		return nil, err
	}
	if u.User != nil && o.Username == "" {
		o.Username = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	u.User = nil // a WebSocket's HTTP request must not carry it
	if o.ClientID == "" {
		o.ClientID = "fleets-simulator"
	}
	return &client{url: u, options: o, log: log, received: received}, nil
}

// ParseBroker checks the URL of an external broker. The error shows no password.
func ParseBroker(broker string) (*url.URL, error) {
	const mend = "write mqtt://host:port, or mqtts, ws, wss"
	u, err := url.Parse(broker)
	if err != nil {
		return nil, errors.New("broker: no URL, " + mend) // the library's error shows all of it
	}
	if _, ok := ports[u.Scheme]; !ok || u.Host == "" {
		return nil, fmt.Errorf("broker %q: %s", u.Redacted(), mend)
	}
	return u, nil
}

// ports are the schemes with their default ports.
var ports = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}

func (c *client) dial(ctx context.Context) (net.Conn, error) {
	switch c.url.Scheme {
	case "ws", "wss":
		d := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: c.options.TLSConfig}
		ws, _, err := d.DialContext(ctx, c.url.String(), nil)
		if err != nil {
			return nil, err
		}
		return packets.NewThreadSafeConn(&webSocketConn{Conn: ws.NetConn(), ws: ws}), nil
	}
	address := c.url.Host
	if c.url.Port() == "" {
		address = net.JoinHostPort(c.url.Hostname(), ports[c.url.Scheme])
	}
	if c.url.Scheme == "mqtts" {
		d := tls.Dialer{Config: c.options.TLSConfig}
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return packets.NewThreadSafeConn(conn), nil
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// run connects, again and again, until ctx ends.
func (c *client) run(ctx context.Context) error {
	pause, failing := firstPause, false
	for {
		p, err := c.connect(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing:
			failing = true
			c.log.Info("not connected to the broker, trying on", "broker", c.url.String(), "error", err)
		case err == nil:
			pause, failing = firstPause, false
			c.log.Info("connected to the broker", "broker", c.url.String())
			c.set(p)
			select {
			case <-p.Done():
				c.log.Info("lost the broker", "broker", c.url.String())
			case <-ctx.Done():
				_ = p.Disconnect(&paho.Disconnect{})
				<-p.Done()
			}
			c.set(nil)
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, lastPause)
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *client) set(p *paho.Client) {
	c.Lock()
	defer c.Unlock()
	c.up = p
	c.notify()
}

func (c *client) connect(ctx context.Context) (*paho.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	p := paho.NewClient(paho.ClientConfig{Conn: conn, PacketTimeout: ackPatience, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(r paho.PublishReceived) (bool, error) {
			c.received(fromPaho(r.Packet))
			return true, nil
		},
	}})
	connect := &paho.Connect{ClientID: c.options.ClientID, KeepAlive: 30, Properties: &paho.ConnectProperties{SessionExpiryInterval: &sessionExpiry, RequestProblemInfo: true}}
	if c.options.Username != "" {
		connect.UsernameFlag, connect.Username = true, c.options.Username
		connect.PasswordFlag, connect.Password = c.options.Password != "", []byte(c.options.Password)
	}
	if _, err := p.Connect(ctx, connect); err != nil {
		return nil, fmt.Errorf("CONNECT: %w", err)
	}
	if _, err := p.Subscribe(ctx, &paho.Subscribe{Subscriptions: upwardFilters()}); err != nil {
		_ = p.Disconnect(&paho.Disconnect{})
		return nil, fmt.Errorf("SUBSCRIBE: %w", err)
	}
	return p, nil
}

// upwardFilters are the upward topics of all Things, one filter a topic.
func upwardFilters() []paho.SubscribeOptions {
	wild := strings.NewReplacer("{t}", "+", "{id}", "+", "{type}", "+")
	var out []paho.SubscribeOptions
	for _, r := range mapping.Routes() {
		if r.Direction == mapping.Up {
			out = append(out, paho.SubscribeOptions{Topic: wild.Replace(r.Topic), QoS: 1, NoLocal: true, RetainAsPublished: true})
		}
	}
	return out
}

func fromPaho(p *paho.Publish) Publish {
	out := Publish{Topic: p.Topic, Payload: p.Payload, QoS: p.QoS, Retain: p.Retain, Dup: p.Duplicate(), At: time.Now()}
	if p.Properties != nil {
		for _, u := range p.Properties.User {
			out.User = append(out.User, UserProperty{u.Key, u.Value})
		}
	}
	return out
}

// client waits for the connection.
func (c *client) client(ctx context.Context) (*paho.Client, error) {
	return await(ctx, &c.monitor, "the broker "+c.url.String(), func() (*paho.Client, bool) { return c.up, c.up != nil })
}

func (c *client) ready(ctx context.Context) error {
	_, err := c.client(ctx)
	return err
}

func (c *client) address() string { return c.url.String() }

func (c *client) publish(ctx context.Context, m Publish) (heard bool, err error) {
	p := &paho.Publish{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, Properties: &paho.PublishProperties{}}
	for _, u := range m.User {
		p.Properties.User.Add(u.Key, u.Value)
	}
	for {
		cl, err := c.client(ctx)
		if err != nil {
			return false, err
		}
		response, err := cl.Publish(ctx, p)
		switch {
		case response != nil && err != nil, errors.Is(err, paho.ErrInvalidArguments):
			return false, err // the broker's last word
		case err == nil:
			return response.ReasonCode != packets.PubackNoMatchingSubscribers, nil
		case ctx.Err() != nil:
			return false, ctx.Err()
		}
		select { // the connection is going down, or the broker is slow
		case <-cl.Done():
		case <-time.After(firstPause):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}
