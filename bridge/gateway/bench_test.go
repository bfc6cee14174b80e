package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fleetbridge/bridge/sightings"
	"fleetbridge/internal/bench"
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

// BenchmarkTail is what an open tail costs: a round without and one with it, by turns, each on a bridge of its own that is
// warm. slower-% is by how much longer the rounds with a tail take, cpu-% by how much more processor time they need, with
// that of the load and the broker: medians.
func BenchmarkTail(b *testing.B) {
	const round = 30_000
	var elapsed, cpu [2][]float64
	var shown uint64
	for b.Loop() {
		for i := range elapsed {
			s := benchSite(b, "always")
			leave := func() {}
			if i == 1 {
				leave = s.look(b, &shown)
			}
			s.round(b, bench.Up, round)
			r := s.round(b, bench.Up, round)
			elapsed[i], cpu[i] = append(elapsed[i], r.Elapsed.Seconds()), append(cpu[i], r.Own.CPU.Seconds())
			leave()
			s.close(b)
		}
	}
	more := func(of [2][]float64) float64 { return 100 * (median(of[1])/median(of[0]) - 1) }
	b.ReportMetric(more(elapsed), "slower-%")
	b.ReportMetric(more(cpu), "cpu-%")
	b.ReportMetric(round/median(elapsed[0]), "messages/s")
	b.ReportMetric(float64(shown)/float64(b.N), "shown/round")
}

func median(of []float64) float64 { return slices.Sorted(slices.Values(of))[len(of)/2] }

// look opens a tail, and counts its lines until leave. It decodes nothing: who looks has a process of their own.
func (s benched) look(b *testing.B, shown *uint64) (leave func()) {
	b.Helper()
	nc, err := sightings.Dial(s.ctx, s.store)
	if err == nil {
		_, err = io.WriteString(nc, "GET /tail HTTP/1.1\r\nHost: bridge\r\n\r\n")
	}
	if err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewReader(nc)
	for text := ""; !strings.Contains(text, `"hello"`); {
		if text, err = lines.ReadString('\n'); err != nil {
			b.Fatal(err)
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			line, err := lines.ReadSlice('\n')
			if err != nil {
				return
			}
			*shown += uint64(bytes.Count(line, []byte(`"outcome"`)))
		}
	}()
	return func() { _ = nc.Close(); <-ended }
}

func benchGateway(b *testing.B, kind bench.Kind, sync string) {
	s := benchSite(b, sync)
	defer s.close(b)
	b.ReportAllocs()
	b.ResetTimer()
	r := s.round(b, kind, b.N)
	b.StopTimer()
	b.ReportMetric(r.Rate(), "messages/s")
	b.ReportMetric(float64(r.Percentile(50).Microseconds()), "p50-µs")
	b.ReportMetric(float64(r.Percentile(99).Microseconds()), "p99-µs")
}

// benched is a bridge between the load's two ends.
type benched struct {
	ctx    context.Context
	broker *bench.FreeBroker
	gw     bench.Contender
	store  string
	close  func(*testing.B)
}

var benchThings = []mapping.Thing{"pump-07"}

func benchSite(b *testing.B, sync string) benched {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	s := benched{ctx: ctx, store: filepath.Join(b.TempDir(), "store")}
	var err error
	if s.broker, err = bench.NewFreeBroker(); err != nil {
		b.Fatal(err)
	}
	s.gw, err = bench.StartGateway(ctx, bench.Setup{Broker: s.broker.URL(), Things: benchThings, StoreDir: s.store, Sync: sync}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	s.close = func(b *testing.B) {
		defer cancel()
		defer s.broker.Close()
		if err := s.gw.Close(); err != nil {
			b.Error(err)
		}
	}
	return s
}

func (s benched) round(b *testing.B, kind bench.Kind, messages int) bench.Result {
	b.Helper()
	r, err := bench.Measure(s.ctx, bench.Load{Kind: kind, Things: benchThings, Size: 300, Messages: messages},
		bench.Bridge{NATS: s.gw.URL(), Prefix: "fleets", Cloud: s.broker, Answers: true}, bench.Gauges{})
	if err == nil {
		err = r.Sound()
	}
	if err != nil {
		b.Fatal(err)
	}
	return r
}
