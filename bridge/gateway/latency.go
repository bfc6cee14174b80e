package gateway

import (
	"time"

	dto "github.com/prometheus/client_model/go"

	"fleetbridge/mapping"
)

// spread is how many messages of one direction were delivered within each bound of forwardBuckets, and in all.
type spread [len(forwardBuckets) + 1]uint64

// spreads reads the histogram fleetbridge_forward_seconds.
func (m *Metrics) spreads() (out [len(directions)]spread) {
	for _, d := range directions {
		var read dto.Metric
		if m.forward[d].Write(&read) != nil {
			continue
		}
		h := read.GetHistogram()
		for i, b := range h.GetBucket() {
			out[d][i] = b.GetCumulativeCount()
		}
		out[d][len(forwardBuckets)] = h.GetSampleCount()
	}
	return out
}

// quantile estimates within what time a part of those messages was delivered that then does not count. It takes for granted that those
// between two bounds lie evenly. known is false when there were none.
func (s spread) quantile(part float64, then spread) (took time.Duration, known bool) {
	all := s[len(forwardBuckets)] - then[len(forwardBuckets)]
	if all == 0 {
		return 0, false
	}
	rank, below, from := part*float64(all), 0.0, 0.0
	for i, bound := range forwardBuckets {
		n := float64(s[i] - then[i])
		if n >= rank {
			return time.Duration((from + (bound-from)*(rank-below)/(n-below)) * float64(time.Second)), true
		}
		below, from = n, bound
	}
	return time.Duration(from * float64(time.Second)), true
}

// latencySamples is how many samples of HistoryStep Latency looks back.
const latencySamples = 6

// Latency estimates how long the messages of a direction took that were delivered within the last minute: half of them p50 at
// most, and 99 of 100 p99 at most. known is false when there were none.
func (g *Gateway) Latency(d mapping.Direction) (p50, p99 time.Duration, known bool) {
	now, then := g.metrics.spreads()[d], g.history.before()[d]
	p50, known = now.quantile(0.5, then)
	p99, _ = now.quantile(0.99, then)
	return p50, p99, known
}
