package local

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

func benchStore(b *testing.B, sync bool) *Store {
	b.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	names, err := mapping.NewSubjects("fleets")
	if err != nil {
		b.Fatal(err)
	}
	s, err := StartServer(ServerConfig{Listen: "127.0.0.1:0", StoreDir: b.TempDir(), SyncAlways: sync, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Shutdown)
	nc, err := s.Connect("bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	store, err := Open(context.Background(), nc, StoreConfig{Subjects: names, Things: []mapping.Thing{"pump"}, Window: 1024}, log)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(store.Close)
	return store
}

func BenchmarkDownSink(b *testing.B) {
	for _, always := range []bool{false, true} {
		b.Run(fmt.Sprintf("sync=%v", always), func(b *testing.B) {
			store := benchStore(b, always)
			sink, payload := store.Down(), make([]byte, 256)
			m := bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.ShadowDelta}, Payload: payload}
			var wg sync.WaitGroup
			for b.Loop() {
				wg.Add(1)
				if err := sink.Send(context.Background(), m, func(error) { wg.Done() }); err != nil {
					b.Fatal(err)
				}
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

func BenchmarkQueue(b *testing.B) {
	store := benchStore(b, false)
	ctx := context.Background()
	for range b.N {
		if _, err := store.js.PublishAsync("fleets.up.pump.events.x", make([]byte, 256)); err != nil {
			b.Fatal(err)
		}
	}
	<-store.js.PublishAsyncComplete()
	q, err := store.Queue(ctx, "pump", mapping.Telemetry)
	if err != nil {
		b.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	b.ResetTimer()
	go func() { ended <- q.Run(run) }()
	for range b.N {
		d := <-q.Deliveries()
		d.Settle()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
