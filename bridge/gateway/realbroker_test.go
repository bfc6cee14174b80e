package gateway_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"fleetbridge/test/brokers"
)

// shared is the real broker of all tests that need none of their own, if it takes long to start.
var shared struct {
	sync.Mutex
	broker brokers.Broker
	spaces int
}

// realBroker starts a tap in front of a broker, and a broker when there is none to share.
func realBroker(t *testing.T, kind brokers.Kind, own bool) (brokers.Broker, *brokers.Tap) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b, space := brokers.Broker(nil), ""
	if kind.Shared && !own {
		shared.Lock()
		defer shared.Unlock()
		b = shared.broker
	}
	if b == nil {
		var err error
		if b, err = kind.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if kind.Shared && !own {
			shared.broker = b
		} else {
			t.Cleanup(func() {
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	if kind.Prefix != "" {
		space = kind.Prefix + "emqx"
		if !own {
			shared.spaces++
			space = fmt.Sprintf("%s%04d", kind.Prefix, shared.spaces)
		}
	}
	tap, err := brokers.NewTap(b.URL(), space)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tap.Close)
	if !own {
		return nil, tap
	}
	return b, tap
}

func closeShared() {
	shared.Lock()
	defer shared.Unlock()
	if shared.broker != nil {
		_ = shared.broker.Close()
	}
}
