package local

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

func benchStore(b testing.TB, sync bool) *Store {
	store, _ := benchServer(b, sync, false)
	return store
}

func benchServer(b testing.TB, sync, intake bool) (*Store, *Server) {
	b.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	names, err := mapping.NewSubjects("fleets")
	if err != nil {
		b.Fatal(err)
	}
	s, err := StartServer(ServerConfig{Listen: "127.0.0.1:0", StoreDir: b.TempDir(), SyncAlways: sync, Subjects: names, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Shutdown)
	nc, err := s.Connect("bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	cfg := StoreConfig{Subjects: names, Things: []mapping.Thing{"pump"}, Window: 1024}
	if intake {
		if cfg.Intake, err = s.Connect("bench intake"); err != nil {
			b.Fatal(err)
		}
	}
	store, err := Open(context.Background(), nc, cfg, log)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(store.Close)
	if err := s.Listen(); err != nil {
		b.Fatal(err)
	}
	return store, s
}

// BenchmarkUp publishes as a program does, with so many messages unanswered, into synced streams: taken by
// the stream itself, or by the intake.
func BenchmarkUp(b *testing.B) {
	for _, intake := range []bool{false, true} {
		for _, window := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("intake=%v/window=%d", intake, window), func(b *testing.B) {
				_, server := benchServer(b, true, intake)
				nc, err := nats.Connect(server.URL())
				if err != nil {
					b.Fatal(err)
				}
				defer nc.Close()
				places := make(chan struct{}, window)
				inbox := nats.NewInbox()
				if _, err := nc.Subscribe(inbox, func(m *nats.Msg) {
					if !bytes.HasPrefix(m.Data, []byte(`{"stream"`)) {
						b.Errorf("%s", m.Data)
					}
					<-places
				}); err != nil {
					b.Fatal(err)
				}
				payload := make([]byte, 256)
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					places <- struct{}{}
					if err := nc.PublishRequest("fleets.up.pump.events.x", inbox, payload); err != nil {
						b.Fatal(err)
					}
				}
				for range window {
					places <- struct{}{}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
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
	for n := 0; n < b.N; {
		for _, d := range q.Take(ctx) {
			d.Settle()
			n++
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
