package fleetsim

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// BrokerOptions say how the embedded broker listens and what it allows. The zero value is a broker
// on a free port of 127.0.0.1 that lets everybody in.
type BrokerOptions struct {
	Log       *slog.Logger // default: none
	Listen    string       // default 127.0.0.1:0
	TLS       *Certificate // set: it also listens with TLS, on a port of its own
	WebSocket bool         // true: it also listens for WebSockets, on a port of its own
	// Logins are who may connect; none: everybody may.
	Logins []Login
	// OnPublish, if set, sees every PUBLISH that was taken, before it is acknowledged and in order
	// per client. It must not block.
	OnPublish func(Publish)
	Keep      int // how many publishes are remembered; default 100,000

	// What the CONNACK announces. Zero: 1,024, no limit, 2, no limit.
	ReceiveMaximum       uint16
	MaximumPacketSize    uint32
	MaximumQoS           byte
	SessionExpiryMaximum time.Duration

	Like Traits // of a real broker, as Like makes them
}

// Login is what a client must present. An empty ClientID stands for any.
type Login struct{ ClientID, Username, Password string }

// Broker is an MQTT 5 broker in this process. It is good for seeing what a client does and for
// refusing it things. It keeps its sessions in memory, so it is no judge of durability: Mosquitto is.
type Broker struct {
	server   *mqtt.Server
	cloud    *mqtt.Client // in whose name Publish publishes
	options  BrokerOptions
	received recorder
	order    atomic.Int64
	once     sync.Once

	url, tlsURL, webSocketURL string

	like Traits

	monitor
	logins     []Login
	denials    []denial
	codes      map[subscribe][]byte // SUBACKs that must be rewritten
	admissions map[string]*admission
}

// NewBroker starts a broker; it serves until Close.
func NewBroker(o BrokerOptions) (*Broker, error) {
	o.ReceiveMaximum = cmp.Or(o.ReceiveMaximum, o.Like.ReceiveMaximum)
	o.MaximumPacketSize = cmp.Or(o.MaximumPacketSize, o.Like.MaximumPacketSize)
	b := &Broker{options: o, like: o.Like, logins: o.Logins, codes: map[subscribe][]byte{}, admissions: map[string]*admission{}}
	for _, filter := range o.Like.DenyPublish {
		b.DenyPublish(filter, notAuthorised)
	}
	for _, filter := range o.Like.DenySubscribe {
		b.DenySubscribe(filter, notAuthorised)
	}
	b.received.keep = o.Keep
	can := mqtt.NewDefaultServerCapabilities()
	can.MaximumInflight = math.MaxUint16 - 1
	// What is in flight never fills the way to the connection, where the library would drop it.
	can.MaximumClientWritesPending = math.MaxUint16
	can.Compatibilities.NoInheritedPropertiesOnAck = true
	can.MaximumPacketSize = o.MaximumPacketSize
	if o.ReceiveMaximum > 0 {
		can.ReceiveMaximum = o.ReceiveMaximum
	}
	if o.MaximumQoS > 0 {
		can.MaximumQos = o.MaximumQoS
	}
	if o.SessionExpiryMaximum > 0 {
		can.MaximumSessionExpiryInterval = uint32(o.SessionExpiryMaximum / time.Second)
	}
	// The library warns of every lost connection, which is what a test broker is for.
	log := slog.New(quiet{orDiscard(o.Log).Handler()})
	b.server = mqtt.New(&mqtt.Options{
		Capabilities: can, Logger: log, SysTopicResendInterval: 3600,
		ClientNetWriteBufferSize: 1, // one write a packet, see window
	})
	b.cloud = b.server.NewClient(nil, mqtt.LocalListener, "fleets-cloud", true)
	b.order.Store(firstOrder(time.Now()))
	if err := b.server.AddHook(&brokerHook{b: b, late: late{server: b.server, of: map[string][]packets.Packet{}}}, nil); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	if err := b.listen(); err != nil {
		_ = b.Close()
		return nil, err
	}
	if err := b.server.Serve(); err != nil {
		_ = b.Close()
		return nil, fmt.Errorf("broker: %w", err)
	}
	return b, nil
}

func (b *Broker) listen() error {
	first := b.options.Listen
	if first == "" {
		first = "127.0.0.1:0"
	}
	add := func(id, address, scheme string, wrap func(net.Listener) net.Listener) (string, error) {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return "", fmt.Errorf("broker: %w", err)
		}
		url := scheme + "://" + l.Addr().String()
		if wrap != nil {
			l = wrap(l)
		}
		if err := b.server.AddListener(servedListener{listeners.NewNet(id, watchedListener{l, b.wake, &b.like}), b.server}); err != nil {
			return "", fmt.Errorf("broker: %w", err)
		}
		return url, nil
	}
	var err error
	if b.url, err = add("tcp", first, "mqtt", nil); err != nil {
		return err
	}
	if c := b.options.TLS; c != nil {
		secure := func(l net.Listener) net.Listener { return tls.NewListener(l, c.server()) }
		if b.tlsURL, err = add("tls", "127.0.0.1:0", "mqtts", secure); err != nil {
			return err
		}
	}
	if b.options.WebSocket {
		if b.webSocketURL, err = add("ws", "127.0.0.1:0", "ws", func(l net.Listener) net.Listener { return listenWebSockets(l) }); err != nil {
			return err
		}
		b.webSocketURL += "/mqtt"
	}
	return nil
}

// URL is mqtt://host:port.
func (b *Broker) URL() string { return b.url }

// TLSURL is mqtts://host:port, empty without BrokerOptions.TLS.
func (b *Broker) TLSURL() string { return b.tlsURL }

// WebSocketURL is ws://host:port/mqtt, empty without BrokerOptions.WebSocket.
func (b *Broker) WebSocketURL() string { return b.webSocketURL }

// Close disconnects every client and stops the broker; what it held is gone.
func (b *Broker) Close() error {
	var err error
	b.once.Do(func() { err = b.server.Close() })
	return err
}

// Publish publishes in the name of the cloud, past every denial, and reports whether anybody is
// subscribed, now or in a session that waits for its client. It never waits for a client. A session
// holds 65,534 unacknowledged messages; what comes beyond that is lost to it, without an error.
func (b *Broker) Publish(p Publish) (heard bool, err error) {
	heard = b.hasSubscriber(p.Topic)
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: p.QoS, Retain: p.Retain},
		TopicName:   p.Topic, Payload: p.Payload, PacketID: uint16(p.QoS),
	}
	for _, u := range p.User {
		pk.Properties.User = append(pk.Properties.User, packets.UserProperty{Key: u.Key, Val: u.Value})
	}
	if err := b.server.InjectPacket(b.cloud, pk); err != nil {
		return heard, fmt.Errorf("publish to %q: %w", p.Topic, err)
	}
	return heard, nil
}

// Hears reports whether anybody is subscribed to a topic, now or in a session that waits for its client.
func (b *Broker) Hears(topic string) bool { return b.hasSubscriber(topic) }

func (b *Broker) hasSubscriber(topic string) bool {
	subs := b.server.Topics.Subscribers(topic)
	return len(subs.Subscriptions)+len(subs.Shared)+len(subs.InlineSubscriptions) > 0
}

// Received returns what clients published, oldest first, refused ones too.
func (b *Broker) Received() []Publish { return b.received.all() }

// WaitPublish returns the first PUBLISH, past or future, that match accepts. match must not call
// the broker.
func (b *Broker) WaitPublish(ctx context.Context, match func(Publish) bool) (Publish, error) {
	return b.received.wait(ctx, match)
}

// SetLogins changes who may connect from now on; none: everybody may.
func (b *Broker) SetLogins(logins ...Login) {
	b.Lock()
	defer b.Unlock()
	b.logins = logins
}

// ErrNotConnected is returned for a client that the broker does not know, or not now.
var ErrNotConnected = errors.New("client is not connected")

// Disconnect sends the client a DISCONNECT with the reason code, as 0x98 for an administrative
// action, and closes its connection. Its session stays.
func (b *Broker) Disconnect(clientID string, reason byte) error {
	cl, ok := b.server.Clients.Get(clientID)
	if !ok || !b.Connected(clientID) {
		return fmt.Errorf("client %q: %w", clientID, ErrNotConnected)
	}
	_ = b.server.DisconnectClient(cl, packets.Code{Code: reason, Reason: "test"})
	return nil
}

// Connected reports whether the client is connected.
func (b *Broker) Connected(clientID string) bool {
	cl, ok := b.server.Clients.Get(clientID)
	if !ok {
		return false
	}
	conn, ok := cl.Net.Conn.(*watchedConn)
	return ok && !conn.closed.Load()
}

func (b *Broker) wake() {
	b.Lock()
	defer b.Unlock()
	b.notify()
}

// WaitConnected returns when the client is connected, or is not, as asked.
func (b *Broker) WaitConnected(ctx context.Context, clientID string, connected bool) error {
	_, err := await(ctx, &b.monitor, fmt.Sprintf("client %q, connected: %t", clientID, connected), func() (bool, bool) {
		return true, b.Connected(clientID) == connected
	})
	return err
}

// WaitSubscribed returns when the client holds a subscription of exactly this filter.
func (b *Broker) WaitSubscribed(ctx context.Context, clientID, filter string) error {
	_, err := await(ctx, &b.monitor, fmt.Sprintf("client %q to subscribe to %q", clientID, filter), func() (bool, bool) {
		cl, ok := b.server.Clients.Get(clientID)
		if ok {
			_, ok = cl.State.Subscriptions.Get(filter)
		}
		return ok, ok
	})
	return err
}
