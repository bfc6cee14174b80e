// Package traces sends what bridge.Watch tells to an OpenTelemetry collector, as spans: one for each message, question
// and call of a handler, and in a message's one for each hop. A span never holds a payload, or a reason, which may quote one.
package traces

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"

	"fleetbridge/bridge"
)

// Options say where spans go. The OTEL_… variables that the libraries know say the rest: headers, time-outs, certificates,
// what the resource is called.
type Options struct {
	Endpoint string  // of Endpoint
	Sample   float64 // the share of traces that begin here, 0 to 1; at 1 the library's sampler holds
	Version  string  // of the bridge
	Instance string  // of this run
	Watch    *bridge.Watch
	Count    Counter
	Log      *slog.Logger
}

// Counter counts what became of spans.
type Counter interface {
	Exported(n int) // the collector has them
	Failed(n int)   // the collector could not be asked, or refused them
	Dropped(n int)  // there was no room for them
}

// path is where a collector takes spans, under its base URL.
const path = "/v1/traces"

// Endpoint is where a collector takes spans whose base URL this is, or the URL itself if it ends so.
func Endpoint(base *url.URL) string {
	u := *base
	if u.Path = strings.TrimRight(u.Path, "/"); !strings.HasSuffix(u.Path, path) {
		u.Path += path
	}
	return u.String()
}

// Tracer is a viewer of the bridge's Watch.
type Tracer struct {
	spans
	watch    *bridge.Watch
	provider *trace.TracerProvider
	export   *exporter
}

var _ bridge.Viewer = (*Tracer)(nil)

// New looks at what passes from now on, until Close. An error says what is wrong with the endpoint or a variable.
func New(o Options) (*Tracer, error) {
	otel.SetLogger(logr.FromSlogHandler(libraryLog{o.Log})) // otherwise the library writes to standard error
	ctx := context.Background()
	hc, err := newClient()
	if err != nil {
		return nil, err
	}
	client, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(o.Endpoint), otlptracehttp.WithHTTPClient(hc))
	if err != nil {
		return nil, err
	}
	about, err := resource.New(ctx, resource.WithHost(), resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "fleetbridge"), attribute.String("service.version", o.Version), attribute.String("service.instance.id", o.Instance)),
		resource.WithFromEnv())
	if err != nil {
		o.Log.Warn("spans don't say all about where they come from; look at OTEL_RESOURCE_ATTRIBUTES, which is written NAME=VALUE,NAME=VALUE", "error", err)
	}
	out := newExporter(client, o.Count, o.Log)
	with := []trace.TracerProviderOption{trace.WithIDGenerator(ids{}), trace.WithResource(about),
		trace.WithSpanProcessor(&bounded{SpanProcessor: trace.NewBatchSpanProcessor(out, trace.WithMaxQueueSize(maxSpans)), export: out})}
	if o.Sample < 1 {
		with = append(with, trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(o.Sample))))
	}
	provider := trace.NewTracerProvider(with...)
	t := &Tracer{spans: spans{provider.Tracer("fleetbridge")}, watch: o.Watch, provider: provider, export: out}
	o.Watch.Show(t)
	return t, nil
}

// Close looks at nothing any more and sends what waits, until ctx ends; what is left then is lost, and counted.
func (t *Tracer) Close(ctx context.Context) {
	t.watch.Hide(t)
	_ = t.provider.Shutdown(ctx) // what it could not send is counted
	t.export.end()
}

// libraryLog passes on that the library can't use something it was given. What exactly is left out: it may quote a secret.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo-1
}                                                       // its warnings
func (l libraryLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l libraryLog) WithGroup(string) slog.Handler      { return l }
func (l libraryLog) Handle(_ context.Context, r slog.Record) error {
	l.log.Warn("OpenTelemetry goes without something that it can't use; look at the variables OTEL_…", "at", r.Message)
	return nil
}

// shortError keeps a collector's page of HTML out of the log, and its words the headers that it was sent, which hold its token.
func shortError(err error) string {
	const most = 300
	text := err.Error()
	for _, of := range [...]string{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"} {
		for header := range strings.SplitSeq(os.Getenv(of), ",") {
			_, value, _ := strings.Cut(header, "=")
			if decoded, err := url.PathUnescape(value); err == nil {
				value = decoded
			}
			value = strings.TrimSpace(value)
			words := append(strings.Fields(value), value) // the token also without its scheme
			slices.SortFunc(words, func(a, b string) int { return len(b) - len(a) })
			for _, w := range words {
				if len(w) >= leastSecret {
					text = strings.ReplaceAll(text, w, "…")
				}
			}
		}
	}
	s := strings.Join(strings.Fields(text), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// leastSecret is how long a word of a header is that is nothing else by chance.
const leastSecret = 4
