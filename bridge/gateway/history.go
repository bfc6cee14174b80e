package gateway

import (
	"runtime/metrics"
	"slices"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// HistoryStep is the time between two samples; the last hour is kept.
const (
	HistoryStep    = 10 * time.Second
	historySamples = 360
)

// Sample is what the gateway had done and held at one time. Counters are since the start.
type Sample struct {
	At        time.Time
	Up, Down  Counts
	Accepted  uint64
	Queued    uint64
	Connected int
	Memory    uint64 // bytes
}

// history keeps samples for the console.
type history struct {
	mu      sync.Mutex
	samples []Sample // the oldest first
}

func (h *history) add(s Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) == historySamples {
		h.samples = slices.Delete(h.samples, 0, 1)
	}
	h.samples = append(h.samples, s)
}

// due reports whether it is time for another sample.
func (h *history) due(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.samples) == 0 || now.Sub(h.samples[len(h.samples)-1].At) >= HistoryStep-time.Second
}

// History is the last hour, the oldest sample first.
func (g *Gateway) History() []Sample {
	g.history.mu.Lock()
	defer g.history.mu.Unlock()
	return slices.Clone(g.history.samples)
}

// Now returns a sample of this moment, without what only the store knows.
func (g *Gateway) Now() Sample {
	s := Sample{At: time.Now(), Memory: memoryInUse()}
	s.Up, s.Down = g.metrics.totals(mapping.Up), g.metrics.totals(mapping.Down)
	for _, t := range g.all() {
		if t.session.State().Connected {
			s.Connected++
		}
		s.Queued += t.bridge.Status.Status().Queued
	}
	return s
}

// totals adds up the messages of a direction.
func (m *Metrics) totals(d mapping.Direction) (out Counts) {
	for of, c := range m.messages {
		if of.direction != d {
			continue
		}
		switch of.outcome {
		case bridge.Delivered:
			out.Delivered += valueOf(c)
		case bridge.Duplicate:
			out.Duplicate += valueOf(c)
		case bridge.Dead:
			out.Dead += valueOf(c)
		}
	}
	return out
}

// DeadCount is how many dead letters there were since the start, for one reason.
type DeadCount struct {
	Direction string `json:"direction"`
	Code      string `json:"code"`
	Count     uint64 `json:"count"`
}

// DeadCounts returns the counts that are not 0.
func (g *Gateway) DeadCounts() []DeadCount {
	out := []DeadCount{}
	for _, d := range directions {
		for _, c := range bridge.Codes {
			if n := valueOf(g.metrics.dead[deadLabels{d, c}]); n > 0 {
				out = append(out, DeadCount{d.String(), string(c), n})
			}
		}
	}
	return out
}

// valueOf reads a counter.
func valueOf(c interface{ Write(*dto.Metric) error }) uint64 {
	var m dto.Metric
	if c.Write(&m) != nil {
		return 0
	}
	return uint64(m.GetCounter().GetValue())
}

// memoryInUse returns how many bytes Go's runtime has from the system.
func memoryInUse() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}
