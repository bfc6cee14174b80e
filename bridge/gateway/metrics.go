package gateway

import (
	"context"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// Metrics counts what the bridge does and serves it to Prometheus. It has a registry of its own. It
// is the core's bridge.Observer; every series that it can ever count in exists from the start, so a
// counter is never born at 1 and counting costs no allocation.
type Metrics struct {
	things    []mapping.Thing
	registry  *prometheus.Registry
	messages  map[messageLabels]prometheus.Counter
	dead      map[deadLabels]prometheus.Counter
	forward   [2]prometheus.Observer
	connected map[mapping.Thing]prometheus.Gauge
}

var _ bridge.Observer = (*Metrics)(nil)

type messageLabels struct {
	direction mapping.Direction
	channel   mapping.Channel
	outcome   bridge.Outcome
}

type deadLabels struct {
	direction mapping.Direction
	code      bridge.Code
}

// noChannel is the channel label of messages whose topic or subject is no address.
const noChannel = "unknown"

// forwardBuckets reach from a broker next door to a night without a link, in seconds.
var forwardBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200}

var (
	outcomes   = [...]bridge.Outcome{bridge.Delivered, bridge.Duplicate, bridge.Dead}
	directions = [...]mapping.Direction{mapping.Up, mapping.Down}
	codes      = [...]bridge.Code{bridge.CodeJSON, bridge.CodeSchema, bridge.CodeSubject, bridge.CodeTooLarge,
		bridge.CodeExpired, bridge.CodeRefused, bridge.CodeUnexpected}
)

// Queues tells how many messages of each Thing wait for the broker. It is asked at each scrape, and
// answers before ctx ends; Things that it leaves out have none.
type Queues interface {
	Queued(ctx context.Context) (map[mapping.Thing]uint64, error)
	// Accepted counts what programs handed over since the start, and what was waiting then.
	Accepted(ctx context.Context) (uint64, error)
}

// NewMetrics makes the metrics of a gateway with these Things, all of them not connected.
func NewMetrics(b Build, things []mapping.Thing) *Metrics {
	m := &Metrics{
		things:    things,
		registry:  prometheus.NewRegistry(),
		messages:  map[messageLabels]prometheus.Counter{},
		dead:      map[deadLabels]prometheus.Counter{},
		connected: map[mapping.Thing]prometheus.Gauge{},
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.countMessages()
	m.countDead()

	forward := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "fleetbridge_forward_seconds",
		Help:    "Time from taking charge of a message to its delivery; delivered messages only.",
		Buckets: forwardBuckets}, []string{"direction"})
	connected := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fleetbridge_mqtt_connected",
		Help: "1 while the Thing's MQTT session is connected, else 0."}, []string{"thing"})
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fleetbridge_build_info",
		Help: "Always 1; the labels tell what is running."}, []string{"version", "commit", "goversion"})
	m.registry.MustRegister(forward, connected, build)
	for _, d := range directions {
		m.forward[d] = forward.WithLabelValues(d.String())
	}
	for _, t := range things {
		m.connected[t] = connected.WithLabelValues(string(t))
	}
	build.WithLabelValues(b.Version, b.Commit, runtime.Version()).Set(1)
	return m
}

// Collect adds the queues to what is scraped. It is called once.
func (m *Metrics) Collect(q Queues) {
	m.registry.MustRegister(&queueCollector{m.things, q,
		prometheus.NewDesc("fleetbridge_queued_messages",
			"Messages of the Thing that are stored and not yet acknowledged by the broker.", []string{"thing"}, nil),
		prometheus.NewDesc("fleetbridge_accepted_messages_total",
			"Messages that programs handed over since the start, and those that waited then: delivered, duplicate, dead or queued.", nil, nil)})
}

func (m *Metrics) countMessages() {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleetbridge_messages_total",
		Help: "Messages by how they ended: delivered, duplicate or dead. Each counts once."},
		[]string{"direction", "channel", "outcome"})
	m.registry.MustRegister(vec)
	series := func(d mapping.Direction, c mapping.Channel, label string) {
		for _, o := range outcomes {
			m.messages[messageLabels{d, c, o}] = vec.WithLabelValues(d.String(), label, string(o))
		}
	}
	for _, r := range mapping.Routes() {
		series(r.Direction, r.Channel, string(r.Channel))
	}
	for _, d := range directions {
		series(d, "", noChannel)
	}
}

func (m *Metrics) countDead() {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleetbridge_dead_letters_total",
		Help: "Messages that were stored as dead letters, by why."}, []string{"direction", "code"})
	m.registry.MustRegister(vec)
	for _, d := range directions {
		for _, c := range codes {
			m.dead[deadLabels{d, c}] = vec.WithLabelValues(d.String(), string(c))
		}
	}
}

// Outcome counts a message whose fate is settled. A channel that does not go in that direction counts
// as unknown, a code that is none as unexpected.
func (m *Metrics) Outcome(f bridge.Fate) {
	counter, ok := m.messages[messageLabels{f.Direction, f.Channel, f.Outcome}]
	if !ok {
		counter, ok = m.messages[messageLabels{f.Direction, "", f.Outcome}]
	}
	if !ok {
		return
	}
	counter.Inc()
	switch f.Outcome {
	case bridge.Delivered:
		m.forward[f.Direction].Observe(max(time.Since(f.Taken), 0).Seconds())
	case bridge.Dead:
		letter, ok := m.dead[deadLabels{f.Direction, f.Code}]
		if !ok {
			letter = m.dead[deadLabels{f.Direction, bridge.CodeUnexpected}]
		}
		letter.Inc()
	}
}

// Connected sets whether a Thing's MQTT session is connected now.
func (m *Metrics) Connected(t mapping.Thing, connected bool) {
	g, ok := m.connected[t]
	switch {
	case !ok:
	case connected:
		g.Set(1)
	default:
		g.Set(0)
	}
}

// ServeHTTP is the /metrics page.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, r)
}

// queueCollector asks for the queues when somebody scrapes, so that nothing is counted in between.
type queueCollector struct {
	things []mapping.Thing
	queues Queues
	queued *prometheus.Desc
	taken  *prometheus.Desc
}

// queuedTimeout keeps a scrape from waiting for a store that does not answer.
const queuedTimeout = 2 * time.Second

func (q *queueCollector) Describe(out chan<- *prometheus.Desc) {
	out <- q.queued
	out <- q.taken
}

// Collect leaves the queues out of a scrape while nobody can tell; a 0 would be a lie.
func (q *queueCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), queuedTimeout)
	defer cancel()
	queued, err := q.queues.Queued(ctx)
	if err != nil {
		return
	}
	for _, t := range q.things {
		out <- prometheus.MustNewConstMetric(q.queued, prometheus.GaugeValue, float64(queued[t]), string(t))
	}
	if n, err := q.queues.Accepted(ctx); err == nil {
		out <- prometheus.MustNewConstMetric(q.taken, prometheus.CounterValue, float64(n))
	}
}
