package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/url"
	"sync/atomic"
	"time"

	"fleetbridge/bridge/cloud"
	"fleetbridge/internal/bench/wire"
	"fleetbridge/mapping"
)

// Cloud is the far side of a bridge: it takes what Things publish, and publishes to them.
type Cloud interface {
	// Attach lets got see what is published on the filters until the connection is closed.
	Attach(ctx context.Context, filters []string, got func(topic, payload []byte)) (CloudConn, error)
}

// CloudConn publishes, also from several goroutines at once.
type CloudConn interface {
	// Publish may wait while the broker takes no more.
	Publish(t mapping.Thing, topic string, payload []byte) error
	Close()
}

// Broker is a cloud behind a broker, which it logs in to as one client.
type Broker struct {
	URL                          string
	TLS                          *tls.Config
	ClientID, Username, Password string
}

const attachTime = 10 * time.Second

// Attach connects and subscribes.
func (b Broker) Attach(ctx context.Context, filters []string, got func(topic, payload []byte)) (CloudConn, error) {
	ctx, cancel := context.WithTimeout(ctx, attachTime)
	defer cancel()
	u, err := url.Parse(b.URL)
	if err != nil {
		return nil, err
	}
	conn, err := cloud.Dial(ctx, u, b.TLS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u.Redacted(), err)
	}
	c, err := wire.Connect(ctx, conn, wire.Options{ClientID: b.ClientID, Username: b.Username, Password: b.Password, OnPublish: got})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u.Redacted(), err)
	}
	for _, f := range filters {
		if err := c.Subscribe(ctx, f); err != nil {
			c.Close()
			return nil, err
		}
	}
	return brokerConn{c}, nil
}

type brokerConn struct{ *wire.Client }

func (c brokerConn) Publish(_ mapping.Thing, topic string, payload []byte) error {
	return c.Client.Publish(topic, payload)
}

// FreeBroker is a cloud that is its own broker and costs next to nothing: what is measured with it is the
// bridge alone. Every Thing's client id must be its name.
type FreeBroker struct {
	broker *wire.Broker
	got    atomic.Pointer[func(topic, payload []byte)]
}

// NewFreeBroker listens on a free port of 127.0.0.1.
func NewFreeBroker() (*FreeBroker, error) {
	f := &FreeBroker{}
	var err error
	f.broker, err = wire.Listen(func(_ *wire.Peer, topic, payload []byte) {
		if got := f.got.Load(); got != nil {
			(*got)(topic, payload)
		}
	})
	return f, err
}

// URL is where bridges connect.
func (f *FreeBroker) URL() string { return f.broker.URL() }

// Close ends every connection.
func (f *FreeBroker) Close() { f.broker.Close() }

// Attach shows got everything that Things publish, whatever the filters.
func (f *FreeBroker) Attach(_ context.Context, _ []string, got func(topic, payload []byte)) (CloudConn, error) {
	f.got.Store(&got)
	return freeConn{f}, nil
}

type freeConn struct{ *FreeBroker }

func (c freeConn) Publish(t mapping.Thing, topic string, payload []byte) error {
	p, _ := c.broker.Peer(string(t))
	if p == nil {
		return fmt.Errorf("the bridge's client %q is not connected", t)
	}
	return p.Publish(topic, payload)
}

func (c freeConn) Close() { c.got.Store(nil) }
