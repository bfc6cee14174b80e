package bridge

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"fleetbridge/mapping"
)

// idle answers at once, and is told nothing.
type idle struct{}

func (idle) Send(_ context.Context, _ Message, done func(error)) error { done(nil); return nil }
func (idle) Ask(_ context.Context, _ Message, done func(error)) error  { done(nil); return nil }
func (idle) Bury(_ context.Context, _ Letter, done func(error)) error  { done(nil); return nil }
func (idle) Outcome(Fate)                                              {}

// forwarder decides nothing.
type forwarder struct{}

func (forwarder) Decide(_ context.Context, d Delivery) (Decision, error) {
	return forward(d.Message), nil
}

// source hands out what it is given.
type source chan Delivery

func (s source) Take(ctx context.Context) []Delivery {
	select {
	case d := <-s:
		return []Delivery{d}
	case <-ctx.Done():
		return nil
	}
}

// pumpAll sends every delivery through a pump whose edges cost nothing.
func pumpAll(b *testing.B, d mapping.Direction, decider Decider, delivery func(i int) Delivery) {
	b.Helper()
	pumpWatched(b, &Watch{}, d, decider, delivery)
}

func pumpWatched(b *testing.B, watch *Watch, d mapping.Direction, decider Decider, delivery func(i int) Delivery) {
	b.Helper()
	in := make(source, 64)
	p := &Pump{Direction: d, Source: in, Decider: decider, Sink: idle{}, Graveyard: idle{}, Observer: idle{}, Watch: watch, Log: quiet()}
	take, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	settled := make(chan struct{}, b.N)
	go func() { ended <- p.Run(take, context.Background()) }()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		x := delivery(i)
		x.Settle = func() { settled <- struct{}{} }
		in <- x
	}
	for range b.N {
		<-settled
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPump is the pump itself.
func BenchmarkPump(b *testing.B) {
	d := arriving(mapping.JobsNotify, "", `{}`)
	pumpAll(b, mapping.Down, forwarder{}, func(int) Delivery { return d })
}

// BenchmarkDecide is the pump with what is decided: guard, schema, version, merge.
func BenchmarkDecide(b *testing.B) {
	pad := strings.Repeat("x", 200)
	b.Run("delta", func(b *testing.B) {
		down := &Downward{Catalog: catalog(b), Shadow: benchShadow(b, false), Now: time.Now, Resync: func() {}}
		pumpAll(b, mapping.Down, down, func(i int) Delivery {
			return arriving(mapping.ShadowDelta, "", fmt.Sprintf(`{"version":%d,"timestamp":1780000000,"state":{"rpm":1500,"note":"%s"}}`, i+1, pad))
		})
	})
	b.Run("event", func(b *testing.B) {
		d := arriving(mapping.Event, "dryRun", `{"eventType":"dryRun","severity":"error","timestamp":1780000000123,"data":{"pressure":0.2,"note":"`+pad+`"}}`)
		pumpAll(b, mapping.Up, benchUpward(b, false), func(int) Delivery { return d })
	})
	for _, merged := range []bool{false, true} {
		b.Run(fmt.Sprintf("report/merged=%v", merged), func(b *testing.B) {
			d := arriving(mapping.ShadowReport, "", `{"state":{"reported":{"rpm":1480,"valve":{"open":true},"note":"`+pad+`"}}}`)
			pumpAll(b, mapping.Up, benchUpward(b, merged), func(int) Delivery { return d })
		})
	}
}

func benchShadow(b *testing.B, merged bool) *Shadow {
	b.Helper()
	s, err := LoadShadow(context.Background(), ShadowConfig{Thing: pump07, Merged: merged}, newMemory(), archive{})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func benchUpward(b *testing.B, merged bool) *Upward {
	b.Helper()
	events, err := LoadEventClock(context.Background(), pump07, newMemory())
	if err != nil {
		b.Fatal(err)
	}
	return &Upward{Catalog: catalog(b), MaxBytes: 1 << 20, Shadow: benchShadow(b, merged), Events: events, Now: time.Now}
}

// What a message costs in the pump itself is bounded: it is paid for each.
func TestCostOfPassage(t *testing.T) {
	p := &Pump{Source: make(source), Decider: forwarder{}, Sink: idle{}, Graveyard: idle{}, Observer: idle{}, Log: quiet()}
	d := arriving(mapping.JobsNotify, "", `{}`)
	d.Settle = func() {}
	var out settlements
	const most = 6
	if n := testing.AllocsPerRun(100, func() {
		if err := p.move(context.Background(), &d, &out); err != nil {
			t.Fatal(err)
		}
	}); n > most {
		t.Errorf("%.0f allocations a message, want at most %d", n, most)
	}
}
