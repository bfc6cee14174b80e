package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/storedir"
	"fleetbridge/bridge/local/wire"
)

// dial describes the connection to an external NATS server. Its certificates are read anew at each
// connection.
func (n NATS) dial(log *slog.Logger) (wire.DialConfig, error) {
	c := wire.DialConfig{URL: string(n.URL), CredsFile: n.CredsFile, Log: log}
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
func (c *Config) OperatorDial() (wire.DialConfig, error) {
	if c.NATS.URL != "" {
		return c.NATS.dial(nil)
	}
	e := c.NATS.Embedded
	login, err := storedir.OperatorLogin(e.StoreDir)
	if err != nil {
		return wire.DialConfig{}, err
	}
	out := wire.DialConfig{URL: "nats://" + e.Listen, Options: []nats.Option{login}}
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

// dial connects to the external server, and waits for it when it is away.
func (g *Gateway) dial(ctx context.Context, c wire.DialConfig) (nc *nats.Conn, err error) {
	g.awaits("not connected to NATS yet")
	err = g.await(ctx, func() (err error) {
		nc, err = dialNow(ctx, c)
		return err
	})
	return nc, err
}

// await tries until the external server is there and does what it is asked: it is often started together with the
// bridge, and a cluster has no leaders at first. Any other failure is final, and so is the end of ctx. Meanwhile
// /readyz says what is awaited. With the embedded server it tries once.
func (g *Gateway) await(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			if g.server == nil {
				g.awaits(errStarting.Error())
			}
			return nil
		}
		if ctx.Err() != nil && g.server == nil {
			return ctx.Err()
		}
		if g.server != nil || !away(err) {
			return err
		}
		what := "not connected to NATS"
		if g.nc != nil && g.nc.IsConnected() {
			what = "NATS is not ready"
		}
		g.awaits(withCause(what, err.Error()))
		if !g.patient { // said once for a start
			g.log.Warn("waiting for the NATS server", "error", err)
			g.patient = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(dialPause):
		}
	}
}

// dialNow is wire.Dial, but returns when ctx ends. The NATS library takes no context, and tries each server of a list for
// seconds.
func dialNow(ctx context.Context, c wire.DialConfig) (*nats.Conn, error) {
	type reached struct {
		nc  *nats.Conn
		err error
	}
	tried := make(chan reached, 1)
	go func() {
		nc, err := wire.Dial(ctx, c)
		tried <- reached{nc, err}
	}()
	select {
	case r := <-tried:
		return r.nc, r.err
	case <-ctx.Done():
		go func() {
			if r := <-tried; r.nc != nil {
				r.nc.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// away reports whether an error means that the server is not there yet or any more, or not ready. If a proxy accepts its
// connections, the proxy closes them or is silent. A name that can't be resolved is a mistake in the configuration instead.
func away(err error) bool {
	if errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrDisconnected) { // asked between two connections
		return true
	}
	if errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, io.EOF) || wire.NotYet(err) {
		return true
	}
	if name := (*net.DNSError)(nil); errors.As(err, &name) && name.IsNotFound {
		return false
	}
	if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
		return true
	}
	op := (*net.OpError)(nil)
	return errors.As(err, &op) && (op.Op == "dial" || op.Op == "read" || op.Op == "write") // not "remote error", an alert of TLS
}

// awaits notes what /readyz says until the gateway listens.
func (g *Gateway) awaits(reason string) { g.awaited.Store(&reason) }
