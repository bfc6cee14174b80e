package gateway

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fleetbridge/bridge/traces"
)

// flushTime is how long a stop waits for a collector to take the last spans.
const flushTime = 500 * time.Millisecond

// startTraces sends spans to traces.endpoint, if there is one, until flush.
func (g *Gateway) startTraces() (flush func(), err error) {
	c := g.cfg.Traces
	if c.Endpoint == "" {
		return func() {}, nil
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil {
		panic("gateway: the configuration was not validated: " + err.Error())
	}
	o := traces.Options{Endpoint: traces.Endpoint(u), Sample: c.Sample, Version: g.build.Version, Instance: g.id, Watch: &g.watch.Watch, Count: g.metrics.spans, Log: g.log}
	t, err := traces.New(o)
	if err != nil {
		return nil, fmt.Errorf("traces.endpoint: %w; look at it and at the variables OTEL_EXPORTER_OTLP_…, or leave it empty for no traces", err)
	}
	g.log.Info("messages are traced", "traces.endpoint", o.Endpoint, "traces.sample", c.Sample)
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushTime)
		defer cancel()
		t.Close(ctx)
	}, nil
}

// spanCounts are traces.Counter.
type spanCounts struct{ exported, failed, dropped prometheus.Counter }

func newSpanCounts(r *prometheus.Registry) spanCounts {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleetbridge_trace_spans_total",
		Help: "Spans by what became of them: the collector has them (exported), it could not be reached or refused them (failed), there was no room for them (dropped). The messages went on all the same."},
		[]string{"result"})
	r.MustRegister(vec)
	return spanCounts{vec.WithLabelValues("exported"), vec.WithLabelValues("failed"), vec.WithLabelValues("dropped")}
}

func (c spanCounts) Exported(n int) { c.exported.Add(float64(n)) }
func (c spanCounts) Failed(n int)   { c.failed.Add(float64(n)) }
func (c spanCounts) Dropped(n int)  { c.dropped.Add(float64(n)) }
