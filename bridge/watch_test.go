package bridge

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/mapping"
)

// looker keeps what it is told, as a line each.
type looker struct {
	mu   sync.Mutex
	seen []string
}

func (l *looker) Saw(s *Sighting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, fmt.Sprintf("%s %s %s %s %s %s", s.Direction, s.Outcome, s.Address.Thing, s.Address.Channel, s.Code, s.Payload))
}

// TestWatchPump: a viewer sees each message once, with how it ended, from when it looks until it leaves.
func TestWatchPump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(func(_ context.Context, d Delivery) (Decision, error) {
			switch string(d.Payload) {
			case "twice":
				return drop(Duplicate), nil
			case "broken":
				return Decision{}, Rejectf(CodeSchema, "no")
			}
			m := d.Message
			m.Payload = []byte(string(m.Payload) + " as sent")
			return forward(m), nil
		})
		watch, eyes := &Watch{}, &looker{}
		l.pump.Watch, l.pump.Thing = watch, pump07
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { _ = l.pump.Run(ctx, t.Context()); close(ended) }()
		for _, payload := range []string{"before", "look", "one", "twice", "broken", "leave", "after"} {
			switch payload {
			case "look":
				watch.Show(eyes)
			case "leave":
				watch.Hide(eyes)
			default:
				l.put(payload)
			}
			synctest.Wait()
		}
		cancel()
		<-ended
		want := fmt.Sprint([]string{"up delivered pump-07 event  one as sent", "up duplicate pump-07 event  twice", "up dead pump-07 event schema broken"})
		if got := fmt.Sprint(eyes.seen); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// TestWatchCostsNothing: a message costs no more with a Watch that nobody looks through.
func TestWatchCostsNothing(t *testing.T) {
	cost := func(w *Watch) float64 {
		p := &Pump{Source: make(source), Decider: forwarder{}, Sink: idle{}, Graveyard: idle{}, Observer: idle{}, Watch: w, Log: quiet()}
		d := arriving(mapping.JobsNotify, "", `{}`)
		d.Settle = func() {}
		var out settlements
		return testing.AllocsPerRun(1000, func() {
			if err := p.move(context.Background(), &d, &out); err != nil {
				t.Fatal(err)
			}
		})
	}
	if without, with := cost(nil), cost(&Watch{}); with > without {
		t.Errorf("%.0f allocations a message, %.0f without a Watch", with, without)
	}
}

// BenchmarkPumpWatched is the pump while somebody looks and keeps nothing.
func BenchmarkPumpWatched(b *testing.B) {
	d := arriving(mapping.JobsNotify, "", `{}`)
	w := &Watch{}
	w.Show(blind{})
	pumpWatched(b, w, mapping.Down, forwarder{}, func(int) Delivery { return d })
}

type blind struct{}

func (blind) Saw(*Sighting) {}

// BenchmarkNobodyLooks compares a pump that can be watched with one that can't, by turns; slower-% is by how much it is slower
// while nobody looks.
func BenchmarkNobodyLooks(b *testing.B) {
	const round = 20_000
	d := arriving(mapping.JobsNotify, "", `{}`)
	d.Settle = func() {}
	pass := func(w *Watch) time.Duration {
		p := &Pump{Source: make(source), Decider: forwarder{}, Sink: idle{}, Graveyard: idle{}, Observer: idle{}, Watch: w, Log: quiet()}
		var out settlements
		began := time.Now()
		for range round {
			if err := p.move(context.Background(), &d, &out); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(began)
	}
	var without, with time.Duration
	pass(nil)
	for b.Loop() {
		without += pass(nil)
		with += pass(&Watch{})
	}
	b.ReportMetric(100*(with.Seconds()/without.Seconds()-1), "slower-%")
	b.ReportMetric(float64(with.Nanoseconds())/float64(round*b.N), "ns/message")
}
