package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net/url"
	"time"

	"github.com/gorilla/websocket"

	"fleetbridge/bridge/cloud"
	"fleetbridge/internal/flow"
)

// A bridge of a cluster tells the others whether it reaches the broker: one of its Things is connected. Of a bridge that has
// no Things a connection without MQTT shows it.

const (
	probePause = 10 * time.Second
	probeTime  = 5 * time.Second // for one server
)

// countThings tells how many Things there are here, and how many are connected.
func (g *Gateway) countThings() (things, connected int) {
	for _, t := range g.all() {
		if things++; t.session.State().Connected {
			connected++
		}
	}
	return things, connected
}

// probe looks for the broker while this bridge has no Things, until ctx ends.
func (g *Gateway) probe(ctx context.Context) {
	for {
		if things, _ := g.countThings(); things == 0 {
			g.probed.Store(reached(ctx, g.Config().MQTT.Server))
		}
		if flow.Sleep(ctx, min(probePause, g.cfg.Cluster.BrokerGrace/3)) != nil {
			return
		}
	}
}

// reached reports whether a server of the list takes connections.
func reached(ctx context.Context, servers []string) bool {
	for _, text := range servers {
		u, err := url.Parse(text)
		if err != nil {
			continue
		}
		one, cancel := context.WithTimeout(ctx, probeTime)
		c, err := cloud.Dial(one, u, nil)
		cancel()
		if err == nil {
			_ = c.Close()
		}
		if err == nil || answered(err) {
			return true
		}
	}
	return false
}

// answered reports whether a connection failed by what the server said: to a certificate, which only Things have, to a
// request without their names, or with a certificate of its own that only mqtt.tls trusts.
func answered(err error) bool {
	unknown, alert := (*tls.CertificateVerificationError)(nil), tls.AlertError(0)
	return errors.As(err, &unknown) || errors.As(err, &alert) || errors.Is(err, websocket.ErrBadHandshake)
}
