package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local"
)

// dial describes the connection to an external NATS server. Its certificates are read anew at each
// connection.
func (n NATS) dial(log *slog.Logger) (local.DialConfig, error) {
	c := local.DialConfig{URL: string(n.URL), CredsFile: n.CredsFile, Log: log}
	if n.TLS == (TLS{}) {
		return c, nil
	}
	files := &tlsFiles{names: n.TLS, build: clientConfig, log: log}
	var err error
	if c.TLS, err = files.config(); err != nil {
		return c, fmt.Errorf("nats.tls.%w", err)
	}
	var pair nats.TLSCertHandler
	if n.TLS.CertFile != "" {
		pair = func() (tls.Certificate, error) {
			now, err := files.config()
			if err != nil {
				return tls.Certificate{}, err
			}
			return now.Certificates[0], nil
		}
	}
	authorities := func() (*x509.CertPool, error) {
		now, err := files.config()
		if err != nil {
			return nil, err
		}
		return now.RootCAs, nil
	}
	c.Options = append(c.Options, nats.ClientTLSConfig(pair, authorities))
	return c, nil
}

// OperatorDial describes how a person on the gateway connects to the NATS server of a running bridge
// with this configuration: the external one, or the embedded one with the login that the bridge keeps
// in its store directory and, with TLS, the listener's own certificate.
func (c *Config) OperatorDial() (local.DialConfig, error) {
	if c.NATS.URL != "" {
		return c.NATS.dial(nil)
	}
	e := c.NATS.Embedded
	login, err := local.OperatorLogin(e.StoreDir)
	if err != nil {
		return local.DialConfig{}, err
	}
	out := local.DialConfig{URL: "nats://" + e.Listen, Options: []nats.Option{login}}
	if e.TLS != (ListenTLS{}) {
		out.URL = "tls://" + e.Listen
		if out.TLS, err = (&tlsFiles{names: e.TLS.files(), build: ownerConfig}).config(); err != nil {
			return out, fmt.Errorf("nats.embedded.tls.%w", err)
		}
	}
	return out, nil
}

// dialPause is how long to wait for a NATS server that is not there yet.
const dialPause = time.Second

// dial connects to the external server, and waits for it when nobody answers: it is often started
// together with the bridge. Any other failure is final, and so is the end of ctx.
func (g *Gateway) dial(ctx context.Context, c local.DialConfig) (*nats.Conn, error) {
	g.awaits("not connected to NATS yet")
	for first := true; ; first = false {
		nc, err := local.Dial(ctx, c)
		if err == nil {
			g.awaits("starting")
			return nc, nil
		}
		if !errors.Is(err, nats.ErrNoServers) && !errors.Is(err, nats.ErrTimeout) {
			return nil, err
		}
		g.awaits(withCause("not connected to NATS", err.Error()))
		if first {
			g.log.Warn("waiting for the NATS server", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(dialPause):
		}
	}
}

// awaits notes what /readyz says until the gateway listens.
func (g *Gateway) awaits(reason string) { g.awaited.Store(&reason) }
