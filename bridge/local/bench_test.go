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
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/mapping"
)

func benchServer(b testing.TB) (*Store, *Spool, *embedded.Server) {
	b.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	names, err := mapping.NewSubjects("fleets")
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	s, err := embedded.Start(embedded.Config{Listen: "127.0.0.1:0", StoreDir: dir, Subjects: names, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Shutdown)
	nc, err := s.Connect("bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	store, err := Open(context.Background(), nc, StoreConfig{Subjects: names, Things: []mapping.Thing{"pump"}, Embedded: true}, log)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(store.Close)
	intake, err := s.Connect("bench intake")
	if err != nil {
		b.Fatal(err)
	}
	spool, err := store.OpenSpool(context.Background(), SpoolConfig{Dir: dir, Intake: intake})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(spool.Close)
	if err := s.Listen(); err != nil {
		b.Fatal(err)
	}
	return store, spool, s
}

// BenchmarkUp publishes as a program does, with so many messages unanswered.
func BenchmarkUp(b *testing.B) {
	for _, window := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			_, _, server := benchServer(b)
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

func BenchmarkDownSink(b *testing.B) {
	store, _, _ := benchServer(b)
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
}

// BenchmarkLane reads what the journal holds.
func BenchmarkLane(b *testing.B) {
	_, spool, _ := benchServer(b)
	ctx := context.Background()
	var all sync.WaitGroup
	for range b.N {
		all.Add(1)
		e := &entry{subject: "fleets.up.pump.events.x", payload: make([]byte, 256)}
		spool.append(keyOf("pump", mapping.Events), e, func(o outcome) {
			if o.err != nil {
				b.Error(o.err)
			}
			all.Done()
		})
	}
	all.Wait()
	lanes := spool.takeOver("pump")
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	b.ResetTimer()
	go func() { ended <- lanes.Run(run) }()
	for n := 0; n < b.N; {
		for _, d := range lanes.Lane(mapping.Events).Take(ctx) {
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
