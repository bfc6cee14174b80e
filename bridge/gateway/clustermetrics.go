package gateway

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fleetbridge/bridge/local"
	"fleetbridge/bridge/local/ownership"
)

// clusterCollector asks how the cluster stands when somebody scrapes. A bridge alone is a cluster of nobody else.
type clusterCollector struct {
	mu        sync.Mutex
	ownership *ownership.Ownership
	store     *local.Store // the last one
	takeovers uint64
	last      time.Duration
}

var (
	clusterMembers = prometheus.NewDesc("fleetbridge_cluster_members",
		"Bridges of the cluster, as this one sees them: active has Things, standby has none and could take some over, draining gives them away, away gives them away because it does not reach the broker, silent does not beat. All 0 for a bridge alone.", []string{"state"}, nil)
	clusterOwned = prometheus.NewDesc("fleetbridge_cluster_shards_owned",
		"Shards whose Things this bridge has; 0 for a bridge alone.", nil, nil)
	clusterDiffering = prometheus.NewDesc("fleetbridge_cluster_other_settings",
		"Bridges of the cluster that beat and have other settings than this one.", nil, nil)
	clusterSuspect = prometheus.NewDesc("fleetbridge_cluster_suspect",
		"1 while the ownership log does not take this bridge's beats, so that another may take over; else 0.", nil, nil)
	clusterBeat = prometheus.NewDesc("fleetbridge_cluster_beat_age_seconds",
		"How long ago this bridge sent the newest beat that the ownership log has taken; 0 for a bridge alone.", nil, nil)
	clusterTakeovers = prometheus.NewDesc("fleetbridge_cluster_takeovers_total",
		"Shards that this bridge has taken over since its start.", nil, nil)
	clusterTook = prometheus.NewDesc("fleetbridge_cluster_takeover_seconds",
		"How long the last takeover took, of one shard or several at a time, from the claim until everything is made; the sessions connect meanwhile.", nil, nil)
	clusterFenced = prometheus.NewDesc("fleetbridge_cluster_fenced_writes_total",
		"Shards that this bridge learned to be another's from a write that a stream refused.", nil, nil)
	clusterReplies = prometheus.NewDesc("fleetbridge_cluster_replies_removed_total",
		"Replies to commands that this bridge has removed from FLEETS_REPLIES, because their Things had more than their share of the room there.", nil, nil)
)

func (c *clusterCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{clusterMembers, clusterOwned, clusterDiffering, clusterSuspect, clusterBeat, clusterTakeovers, clusterTook, clusterFenced, clusterReplies} {
		out <- d
	}
}

func (c *clusterCollector) of(o *ownership.Ownership) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ownership = o
}

func (c *clusterCollector) keeps(s *local.Store) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store = s
}

// took is told of a takeover.
func (c *clusterCollector) took(shards int, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takeovers, c.last = c.takeovers+uint64(shards), d
}

func (c *clusterCollector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, fenced, removed := ownership.View{}, uint64(0), uint64(0)
	if c.store != nil {
		removed = c.store.RepliesRemoved()
	}
	if c.ownership != nil {
		v = c.ownership.View()
	}
	differing := 0
	states := map[string]int{"active": 0, "standby": 0, "draining": 0, "away": 0, "silent": 0}
	for _, m := range v.Members {
		if !m.Left && !m.Dead && m.Config != v.Config {
			differing++
		}
		switch {
		case m.Left:
		case m.Dead:
			states["silent"]++
		case m.Draining:
			states["draining"]++
		case m.Away:
			states["away"]++
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
	out <- prometheus.MustNewConstMetric(clusterOwned, prometheus.GaugeValue, float64(v.Owned))
	out <- prometheus.MustNewConstMetric(clusterDiffering, prometheus.GaugeValue, float64(differing))
	out <- prometheus.MustNewConstMetric(clusterSuspect, prometheus.GaugeValue, number(v.Joined && v.Suspect))
	out <- prometheus.MustNewConstMetric(clusterBeat, prometheus.GaugeValue, v.Proof.Seconds())
	out <- prometheus.MustNewConstMetric(clusterTakeovers, prometheus.CounterValue, float64(c.takeovers))
	out <- prometheus.MustNewConstMetric(clusterTook, prometheus.GaugeValue, c.last.Seconds())
	out <- prometheus.MustNewConstMetric(clusterFenced, prometheus.CounterValue, float64(fenced))
	out <- prometheus.MustNewConstMetric(clusterReplies, prometheus.CounterValue, float64(removed))
}
