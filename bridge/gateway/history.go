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

// HistoryStep is the time between two samples of the last hour, DayStep of the last day. Together they take 75 kB.
const (
	HistoryStep    = 10 * time.Second
	historySamples = 360
	DayStep        = 5 * time.Minute
	daySamples     = 288
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

// history keeps samples for the console, the oldest first.
type history struct {
	mu      sync.Mutex
	samples []Sample // of the last hour
	day     []Sample
	worst   Sample                    // since the last of day
	spreads [][len(directions)]spread // of the last minute
}

func (h *history) add(s Sample, delivered [len(directions)]spread) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.spreads = push(h.spreads, delivered, latencySamples)
	h.samples = push(h.samples, s, historySamples)
	if h.worst.At.IsZero() {
		h.worst = s
	}
	h.worst.worsen(s)
	if n := len(h.day); n == 0 || s.At.Sub(h.day[n-1].At) >= DayStep-HistoryStep/2 {
		h.day = push(h.day, h.worst, daySamples)
		h.worst = Sample{}
	}
}

// before is what was delivered until a minute ago.
func (h *history) before() (out [len(directions)]spread) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.spreads) == latencySamples {
		out = h.spreads[0]
	}
	return out
}

// push adds a sample, and forgets the first when there are too many.
func push[T any](all []T, s T, most int) []T {
	if len(all) == most {
		all = slices.Delete(all, 0, 1)
	}
	return append(all, s)
}

// worsen makes s a later sample, which keeps the worst of what it held before, so that a link that was lost for a moment
// shows in a day.
func (s *Sample) worsen(now Sample) {
	now.Queued, now.Memory = max(s.Queued, now.Queued), max(s.Memory, now.Memory)
	now.Connected = min(s.Connected, now.Connected)
	*s = now
}

// wait is how long it takes until another sample is due: 0 or less when it is.
func (h *history) wait(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) == 0 {
		return 0
	}
	return HistoryStep - now.Sub(h.samples[len(h.samples)-1].At)
}

// History is the last hour, the oldest sample first.
func (g *Gateway) History() []Sample {
	g.history.mu.Lock()
	defer g.history.mu.Unlock()
	return slices.Clone(g.history.samples)
}

// Day is the last day, the oldest sample first. A sample has the most that was queued and the fewest Things that were
// connected since the one before.
func (g *Gateway) Day() []Sample {
	g.history.mu.Lock()
	defer g.history.mu.Unlock()
	return slices.Clone(g.history.day)
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
