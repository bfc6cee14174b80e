package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local"
)

// dial describes the connection to an external NATS server.
func (n NATS) dial() (local.DialConfig, error) {
	tls, err := n.TLS.Client()
	return local.DialConfig{URL: string(n.URL), CredsFile: n.CredsFile, TLS: tls}, err
}

// OperatorDial describes how a person on the gateway connects to the NATS server of a running bridge
// with this configuration: the external one, or the embedded one with the login that the bridge keeps
// in its store directory.
func (c *Config) OperatorDial() (local.DialConfig, error) {
	if c.NATS.URL != "" {
		return c.NATS.dial()
	}
	login, err := local.OperatorLogin(c.NATS.Embedded.StoreDir)
	if err != nil {
		return local.DialConfig{}, err
	}
	return local.DialConfig{URL: "nats://" + c.NATS.Embedded.Listen, Options: []nats.Option{login}}, nil
}

// dialPause is how long to wait for a NATS server that is not there yet.
const dialPause = time.Second

// dial connects to the external server, and waits for it when nobody answers: it is often started
// together with the bridge. Any other failure is final.
func (g *Gateway) dial(ctx context.Context, c local.DialConfig) (*nats.Conn, error) {
	for first := true; ; first = false {
		nc, err := local.Dial(ctx, c)
		if err == nil || !errors.Is(err, nats.ErrNoServers) && !errors.Is(err, nats.ErrTimeout) {
			return nc, err
		}
		if first {
			g.log.Warn("waiting for the NATS server", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(dialPause):
		}
	}
}
