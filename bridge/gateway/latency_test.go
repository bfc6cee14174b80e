package gateway

import (
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// Quantiles are those of the messages that came since, and of the direction that is asked for.
func TestLatency(t *testing.T) {
	m := NewMetrics(Build{}, []mapping.Thing{"pump-07"})
	deliver := func(n int, took time.Duration) {
		for range n {
			m.Outcome(bridge.Fate{Direction: mapping.Up, Channel: mapping.Event, Outcome: bridge.Delivered, Taken: time.Now().Add(-took)})
		}
	}
	within := func(what string, then spread, part float64, from, to time.Duration) {
		t.Helper()
		if got, known := m.spreads()[mapping.Up].quantile(part, then); !known || got < from || got > to {
			t.Errorf("%s: %s, %t, want %s to %s", what, got, known, from, to)
		}
	}
	if _, known := m.spreads()[mapping.Up].quantile(0.5, spread{}); known {
		t.Error("something is known of no messages")
	}
	deliver(100, 20*time.Hour) // beyond the last bound
	within("beyond the last bound", spread{}, 0.5, 12*time.Hour, 12*time.Hour)
	then := m.spreads()[mapping.Up]
	deliver(97, 70*time.Millisecond)
	deliver(3, 40*time.Second)
	within("half", then, 0.5, 70*time.Millisecond, 80*time.Millisecond)
	within("99 of 100", then, 0.99, 30*time.Second, 60*time.Second)
	if _, known := m.spreads()[mapping.Down].quantile(0.5, spread{}); known {
		t.Error("the other direction knows of them")
	}
}

// The last minute counts; before one is over, what was delivered since the start.
func TestLatencyForgets(t *testing.T) {
	h, at := &history{}, time.Now()
	for n := range latencySamples {
		if h.before() != ([len(directions)]spread{}) {
			t.Errorf("after %d samples something does not count", n)
		}
		h.add(Sample{At: at.Add(time.Duration(n) * HistoryStep)}, [len(directions)]spread{{uint64(n + 1)}})
	}
	if got := h.before()[mapping.Up][0]; got != 1 {
		t.Errorf("what was delivered before the minute is %d", got)
	}
}
