package gateway

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fleetbridge/mapping"
)

// queueCollector asks for the queues when somebody scrapes, so that nothing is counted in between.
type queueCollector struct {
	things func() []mapping.Thing
	queues Scraped
}

var (
	queuedMessages = prometheus.NewDesc("fleetbridge_queued_messages",
		"Messages of the Thing that are stored and not yet acknowledged by the broker.", []string{"thing"}, nil)
	oldestAge = prometheus.NewDesc("fleetbridge_oldest_message_age_seconds",
		"How long the oldest of the messages waits that are on their way to the broker; 0: none does.", []string{"thing"}, nil)
	acceptedMessages = prometheus.NewDesc("fleetbridge_accepted_messages_total",
		"Messages that programs handed over since the start, and those that waited then: delivered, duplicate, dead or queued.", nil, nil)
)

// scrapeTimeout keeps a scrape from waiting for a store that does not answer.
const scrapeTimeout = 2 * time.Second

func (q *queueCollector) Describe(out chan<- *prometheus.Desc) {
	out <- queuedMessages
	out <- oldestAge
	out <- acceptedMessages
}

// Collect leaves the queues out while their lengths are not known, because 0 would be wrong.
func (q *queueCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	oldest, now := q.queues.Oldest(), time.Now()
	for _, t := range q.things() {
		age := 0.0
		if at, waits := oldest[t]; waits {
			age = max(now.Sub(at), 0).Seconds()
		}
		out <- prometheus.MustNewConstMetric(oldestAge, prometheus.GaugeValue, age, string(t))
	}
	queued, err := q.queues.Queued(ctx)
	if err != nil {
		return
	}
	for _, t := range q.things() {
		out <- prometheus.MustNewConstMetric(queuedMessages, prometheus.GaugeValue, float64(queued[t]), string(t))
	}
	if n, err := q.queues.Accepted(ctx); err == nil {
		out <- prometheus.MustNewConstMetric(acceptedMessages, prometheus.CounterValue, float64(n))
	}
}

// readyCollector says in numbers what /readyz says in words.
type readyCollector struct {
	things func() []mapping.Thing
	state  Scraped
}

var (
	thingReady = prometheus.NewDesc("fleetbridge_ready",
		"1 while a message of the Thing could be taken and would be passed on, as /readyz says; else 0.", []string{"thing"}, nil)
	thingSubscribed = prometheus.NewDesc("fleetbridge_subscribed",
		"1 while the Thing's session has all its subscriptions, else 0.", []string{"thing"}, nil)
	kindStalled = prometheus.NewDesc("fleetbridge_stalled",
		"1 while a kind of the Thing's messages stands still, because the broker refuses it, else 0.", []string{"thing", "kind"}, nil)
	storeWritable = prometheus.NewDesc("fleetbridge_store_writable",
		"1 while NATS and its streams take messages, else 0.", nil, nil)
)

func (r *readyCollector) Describe(out chan<- *prometheus.Desc) {
	out <- thingReady
	out <- thingSubscribed
	out <- kindStalled
	out <- storeWritable
}

func (r *readyCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	gauge := func(d *prometheus.Desc, is bool, labels ...string) {
		value := 0.0
		if is {
			value = 1
		}
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	all, writable := true, true
	parts := map[string]map[string]bool{} // what does not work, by Thing
	for _, p := range r.state.Ready(ctx) {
		switch {
		case p.Thing == "":
			all = false
			writable = writable && p.Part != PartNATS && p.Part != PartStore
		case parts[p.Thing] == nil:
			parts[p.Thing] = map[string]bool{p.Part: true}
		default:
			parts[p.Thing][p.Part] = true
		}
	}
	for _, t := range r.things() {
		not := parts[string(t)]
		gauge(thingReady, all && len(not) == 0, string(t))
		gauge(thingSubscribed, !not[PartConnection] && !not[PartSubscription], string(t))
		for _, k := range kinds {
			gauge(kindStalled, not[k], string(t), k)
		}
	}
	gauge(storeWritable, writable)
}

// kinds are the kinds of messages that may stand still.
var kinds = [...]string{"commands", "jobs", "shadow", "events"}
