package gateway

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fleetbridge/bridge/local"
)

// clusterCollector asks how the cluster stands when somebody scrapes. A bridge alone is a cluster of nobody else.
type clusterCollector struct {
	mu        sync.Mutex
	ownership *local.Ownership
	takeovers uint64
	began     time.Time
	took      time.Duration
}

var (
	clusterMembers = prometheus.NewDesc("fleetbridge_cluster_members",
		"Bridges of the cluster, as this one sees them: active has the Things, standby could take them over, draining gives them away, silent does not beat. All 0 for a bridge alone.", []string{"state"}, nil)
	clusterOwned = prometheus.NewDesc("fleetbridge_cluster_shards_owned",
		"1 while this bridge has the Things, else 0; 0 for a bridge alone.", nil, nil)
	clusterSuspect = prometheus.NewDesc("fleetbridge_cluster_suspect",
		"1 while the ownership log does not take this bridge's beats, so that another may take over; else 0.", nil, nil)
	clusterBeat = prometheus.NewDesc("fleetbridge_cluster_beat_age_seconds",
		"How long ago this bridge sent the newest beat that the ownership log has taken; 0 for a bridge alone.", nil, nil)
	clusterTakeovers = prometheus.NewDesc("fleetbridge_cluster_takeovers_total",
		"How often this bridge has taken the Things over since its start.", nil, nil)
	clusterTook = prometheus.NewDesc("fleetbridge_cluster_takeover_seconds",
		"How long the last takeover took, from the claim until everything is made; the sessions connect after that.", nil, nil)
	clusterFenced = prometheus.NewDesc("fleetbridge_cluster_fenced_writes_total",
		"Terms of this bridge that ended with a write that a stream refused, because another bridge has the Things.", nil, nil)
)

func (c *clusterCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{clusterMembers, clusterOwned, clusterSuspect, clusterBeat, clusterTakeovers, clusterTook, clusterFenced} {
		out <- d
	}
}

func (c *clusterCollector) of(o *local.Ownership) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ownership = o
}

// claimed and serves must be called when a takeover begins and ends.
func (c *clusterCollector) claimed(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takeovers, c.began = c.takeovers+1, now
}

func (c *clusterCollector) serves(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.began.IsZero() {
		c.took, c.began = now.Sub(c.began), time.Time{}
	}
}

func (c *clusterCollector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, fenced := local.OwnershipView{}, uint64(0)
	if c.ownership != nil {
		v = c.ownership.View()
	}
	states := map[string]int{"active": 0, "standby": 0, "draining": 0, "silent": 0}
	for _, m := range v.Members {
		switch {
		case m.Left:
		case m.Dead:
			states["silent"]++
		case m.Draining:
			states["draining"]++
		case m.Shards > 0:
			states["active"]++
		default:
			states["standby"]++
		}
	}
	for _, n := range v.Fenced {
		fenced += n
	}
	for state, n := range states {
		out <- prometheus.MustNewConstMetric(clusterMembers, prometheus.GaugeValue, float64(n), state)
	}
	out <- prometheus.MustNewConstMetric(clusterOwned, prometheus.GaugeValue, number(v.Mine))
	out <- prometheus.MustNewConstMetric(clusterSuspect, prometheus.GaugeValue, number(v.Joined && v.Suspect))
	out <- prometheus.MustNewConstMetric(clusterBeat, prometheus.GaugeValue, v.Proof.Seconds())
	out <- prometheus.MustNewConstMetric(clusterTakeovers, prometheus.CounterValue, float64(c.takeovers))
	out <- prometheus.MustNewConstMetric(clusterTook, prometheus.GaugeValue, c.took.Seconds())
	out <- prometheus.MustNewConstMetric(clusterFenced, prometheus.CounterValue, float64(fenced))
}
