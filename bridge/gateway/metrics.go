package gateway

import (
	"context"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/door"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/mapping"
)

// Metrics counts what the bridge does and serves it to Prometheus. It has a registry of its own, and is the core's
// bridge.Observer. All series exist from the start, so no counter begins at 1, and counting costs no allocation.
type Metrics struct {
	registry  *prometheus.Registry
	messages  map[messageLabels]prometheus.Counter
	dead      map[deadLabels]prometheus.Counter
	forward   [len(directions)]prometheus.Histogram
	connected *prometheus.GaugeVec
	silent    *prometheus.GaugeVec
	strays    map[embedded.Stray]prometheus.Counter
	expiry    *prometheus.GaugeVec
	watched   prometheus.Gauge
	refused   prometheus.Gauge
	unshown   prometheus.Counter
	penal     *prometheus.CounterVec
	cluster   *clusterCollector
	spans     spanCounts
	// Of the last reload: whether it worked; and when one last did.
	reloaded, reloadedAt prometheus.Gauge

	mu     sync.Mutex
	things []mapping.Thing
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

// forwardBuckets are in seconds, from a broker in the same network to a night without a link.
var forwardBuckets = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200}

var (
	outcomes   = [...]bridge.Outcome{bridge.Delivered, bridge.Duplicate, bridge.Dead}
	directions = [...]mapping.Direction{mapping.Up, mapping.Down}
)

// Scraped is asked at each scrape, and answers before ctx ends.
type Scraped interface {
	// Queued counts the messages of each Thing that wait for the broker. Things that it leaves out have none.
	Queued(ctx context.Context) (map[mapping.Thing]uint64, error)
	// Oldest returns since when the oldest of them has waited.
	Oldest() map[mapping.Thing]time.Time
	// Ready is what /readyz says.
	Ready(ctx context.Context) []NotReady
	// Accepted returns how many messages programs handed over since the start, and with these how many were waiting then.
	Accepted(ctx context.Context) (uint64, error)
}

// NewMetrics makes the metrics of a gateway with these Things, all of them not connected.
func NewMetrics(b Build, things []mapping.Thing) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		messages: map[messageLabels]prometheus.Counter{},
		dead:     map[deadLabels]prometheus.Counter{},
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.countMessages()
	m.countDead()
	m.spans = newSpanCounts(m.registry)

	forward := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "fleetbridge_forward_seconds",
		Help:    "Time from taking charge of a message to its delivery; delivered messages only.",
		Buckets: forwardBuckets[:]}, []string{"direction"})
	m.connected = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fleetbridge_mqtt_connected",
		Help: "1 while the Thing's MQTT session is connected, else 0."}, []string{"thing"})
	m.silent = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fleetbridge_cloud_silent",
		Help: "1 while the cloud does not answer what the bridge asks at each connection (jobs/get), else 0."}, []string{"thing"})
	strays := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleetbridge_stray_publishes_total",
		Help: "What programs published on up subjects that nothing takes, and so nowhere: for a Thing that is not configured (thing), or on a channel that there is not (channel). Embedded server only."}, []string{"unknown"})
	m.strays = map[embedded.Stray]prometheus.Counter{}
	for _, s := range embedded.Strays {
		m.strays[s] = strays.WithLabelValues(string(s))
	}
	m.penal = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleetbridge_program_connections_total",
		Help: "Connections of programs that the bridge has closed because their login took more than its share (cut), and new ones that it refused for a while after that (refused). Embedded server only."}, []string{"penalty"})
	for _, p := range door.Penalties {
		m.penal.WithLabelValues(string(p))
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fleetbridge_build_info",
		Help: "Always 1; the labels tell what is running."}, []string{"version", "commit", "goversion"})
	m.expiry = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fleetbridge_certificate_expiry_timestamp_seconds",
		Help: "When the certificate expires, Unix time: of a chain its first certificate to do so, of a file of authorities its last. use is the key that names the file."},
		[]string{"file", "use"})
	m.reloaded = prometheus.NewGauge(prometheus.GaugeOpts{Name: "fleetbridge_config_last_reload_successful",
		Help: "1 when the last configuration that was read is in force, 0 when it was refused."})
	m.reloadedAt = prometheus.NewGauge(prometheus.GaugeOpts{Name: "fleetbridge_config_last_reload_success_timestamp_seconds",
		Help: "When the configuration in force was read, Unix time."})
	m.refused = prometheus.NewGauge(prometheus.GaugeOpts{Name: "fleetbridge_things_refused",
		Help: "Entries of the bucket FLEETS_THINGS (fleetbridge things, with nats.url) that this bridge does not take; the log and fleetbridge things ls say why."})
	m.watched = prometheus.NewGauge(prometheus.GaugeOpts{Name: "fleetbridge_console_viewers",
		Help: "How many look at passing messages in the console now."})
	m.unshown = prometheus.NewCounter(prometheus.CounterOpts{Name: "fleetbridge_console_skipped_total",
		Help: "Messages that somebody who looks in the console was not shown, because there were too many. They were passed on all the same."})
	m.cluster = &clusterCollector{}
	m.registry.MustRegister(m.cluster, m.refused, m.watched, m.unshown, forward, m.connected, m.silent, strays, m.penal, m.expiry, m.reloaded, m.reloadedAt, build)
	m.Reloaded(true, time.Now())
	for _, d := range directions {
		m.forward[d] = forward.WithLabelValues(d.String()).(prometheus.Histogram)
	}
	m.SetThings(things)
	build.WithLabelValues(b.Version, b.Commit, runtime.Version()).Set(1)
	return m
}

// Stray counts a publish that no stream took.
func (m *Metrics) Stray(s embedded.Stray) { m.strays[s].Inc() }

// Penal counts connections of programs that were closed or refused.
func (m *Metrics) Penal(p door.Penalty) { m.penal.WithLabelValues(string(p)).Inc() }

// Collect adds what is asked for at each scrape. It is called once.
func (m *Metrics) Collect(s Scraped) {
	m.registry.MustRegister(&queueCollector{m.Things, s}, &readyCollector{m.Things, s})
}

func (m *Metrics) countMessages() {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleetbridge_messages_total",
		Help: "Messages by how they ended: delivered, duplicate or dead. Each counts once. Questions that the bridge asks itself, for req subjects and at each connection, are stored nowhere and not counted; their answers are."},
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
		for _, c := range bridge.Codes {
			m.dead[deadLabels{d, c}] = vec.WithLabelValues(d.String(), string(c))
		}
	}
}

// Outcome counts a message that has ended. A channel that does not go in that direction counts
// as unknown, a code that is not one of bridge.Codes as unexpected.
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

// Things returns the Things that have series of their own.
func (m *Metrics) Things() []mapping.Thing {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.things)
}

// SetThings changes the Things. New ones are not connected; the series of those that are gone end.
func (m *Metrics) SetThings(things []mapping.Thing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.things {
		if !slices.Contains(things, t) {
			for _, g := range m.ofThings() {
				g.DeleteLabelValues(string(t))
			}
		}
	}
	for _, t := range things {
		for _, g := range m.ofThings() {
			g.WithLabelValues(string(t)) // 0, or what it is
		}
	}
	m.things = slices.Clone(things)
}

func (m *Metrics) ofThings() []*prometheus.GaugeVec {
	return []*prometheus.GaugeVec{m.connected, m.silent}
}

// Connected sets whether a Thing's MQTT session is connected now.
func (m *Metrics) Connected(t mapping.Thing, connected bool) {
	m.set(m.connected, t, number(connected))
}

// Silent sets whether the cloud leaves the bridge's own question unanswered.
func (m *Metrics) Silent(t mapping.Thing, silent bool) { m.set(m.silent, t, number(silent)) }

// set sets a Thing's series, unless the Thing is gone.
func (m *Metrics) set(g *prometheus.GaugeVec, t mapping.Thing, value float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.things, t) {
		g.WithLabelValues(string(t)).Set(value)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Reloaded notes how a reload ended.
func (m *Metrics) Reloaded(ok bool, at time.Time) {
	if !ok {
		m.reloaded.Set(0)
		return
	}
	m.reloaded.Set(1)
	m.reloadedAt.Set(float64(at.UnixMilli()) / 1000)
}

// ServeHTTP is the /metrics page.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, r)
}
