package local

import (
	"context"
	"sync/atomic"
	"testing"

	"fleetbridge/mapping"
)

// TestForgetAfterOutage: what is settled while JetStream is being started again is forgotten after it, and so
// is what is settled from then on.
func TestForgetAfterOutage(t *testing.T) {
	over, end := context.WithCancel(context.Background())
	end()
	var down atomic.Bool
	asked := make(chan struct{}, 16)
	r := newRigWith(t, ServerConfig{SyncAlways: true}, StoreConfig{Working: func() context.Context {
		if !down.Load() {
			return context.Background()
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		return over
	}})
	nc := r.program()
	for range 2 {
		r.publish(nc, "fleets.up.pump.events.x", "1")
	}
	q, _ := r.run("pump", mapping.Telemetry)
	first, second := next(t, q), next(t, q)
	down.Store(true)
	first.Settle()
	<-asked
	down.Store(false)
	eventually(t, "the first is forgotten", func() bool { return queuedOf(t, r, "pump") == 1 })
	second.Settle()
	eventually(t, "the second is forgotten", func() bool { return queuedOf(t, r, "pump") == 0 })
}
