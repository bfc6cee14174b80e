package gateway_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"fleetbridge/bridge/bench"
	"fleetbridge/mapping"
)

// BenchmarkGateway is the whole bridge, with the load in the same process, against a broker that costs
// nothing. The store is where the test's temporary directory is; on a disk in memory a sync is free.
func BenchmarkGateway(b *testing.B) {
	for _, kind := range bench.Kinds {
		for _, sync := range []string{"always", "1s"} {
			if kind != bench.Up && sync != "always" {
				continue // an interval relaxes telemetry alone
			}
			b.Run(fmt.Sprintf("%s/sync=%s", kind, sync), func(b *testing.B) { benchGateway(b, kind, sync) })
		}
	}
}

func benchGateway(b *testing.B, kind bench.Kind, sync string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	broker, err := bench.NewFreeBroker()
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	things := []mapping.Thing{"pump-07"}
	gw, err := bench.StartGateway(ctx, bench.Setup{
		Broker: broker.URL(), Things: things, StoreDir: filepath.Join(b.TempDir(), "store"), Sync: sync,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := gw.Close(); err != nil {
			b.Error(err)
		}
	}()
	b.ReportAllocs()
	b.ResetTimer()
	r, err := bench.Measure(ctx, bench.Load{Kind: kind, Things: things, Size: 300, Messages: b.N},
		bench.Bridge{NATS: gw.URL(), Prefix: "fleets", Cloud: broker, Answers: true}, bench.Gauges{})
	b.StopTimer()
	if err == nil {
		err = r.Sound()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(r.Rate(), "messages/s")
	b.ReportMetric(float64(r.Percentile(50).Microseconds()), "p50-µs")
	b.ReportMetric(float64(r.Percentile(99).Microseconds()), "p99-µs")
}
