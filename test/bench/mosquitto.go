package main

import (
	"context"
	"errors"
	"net/url"
	"time"

	"fleetbridge/internal/bench"
)

// bridgeLines make a mosquitto carry a kind's messages to or from another.
func bridgeLines(far string, k bench.Kind) []string {
	u, err := url.Parse(far)
	if err != nil {
		panic("bench: " + err.Error()) // it is fleetsim's own
	}
	way := "in"
	if k == bench.Up {
		way = "out"
	}
	return []string{
		"connection bench", "address " + u.Host, "bridge_protocol_version mqttv50", "cleansession false",
		"notifications false", "try_private false", "topic $emqx/things/# " + way + " 1",
	}
}

// awaitBridge returns when mosquitto's bridge carries messages. It says nothing of it, so one is sent until
// it arrives.
func (b *brokers) awaitBridge(ctx context.Context, l bench.Load) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	l.Duration, l.Messages, l.Rate, l.Things = 0, 1, 0, l.Things[:1]
	for {
		r, err := bench.Measure(ctx, l, bench.Direct{Near: bench.Broker{URL: b.near}, Far: bench.Broker{URL: b.far}}, bench.Gauges{})
		if err != nil {
			return errors.Join(errors.New("mosquitto's bridge does not carry messages"), err, b.close())
		}
		if r.Lost == 0 {
			return nil
		}
	}
}
