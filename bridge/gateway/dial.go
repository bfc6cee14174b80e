package gateway

import (
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
