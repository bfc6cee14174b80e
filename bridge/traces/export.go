package traces

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
)

const (
	// maxSpans wait for the collector, or are under way to it, at most: about 4 MiB. What is more is dropped and counted.
	maxSpans = 4096
	// remindAfter is the least time between two lines about a collector that goes on to fail.
	remindAfter = 10 * time.Minute
)

// bounded lets through as many ended spans as there may be at a time.
type bounded struct {
	trace.SpanProcessor
	export *exporter
}

func (b *bounded) OnEnd(s trace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if b.export.waiting.Add(1) > maxSpans {
		b.export.waiting.Add(-1)
		b.export.count.Dropped(1)
		return
	}
	b.SpanProcessor.OnEnd(s)
}

// exporter logs when the collector fails and when it works again, and counts spans.
type exporter struct {
	trace.SpanExporter
	count   Counter
	log     *slog.Logger
	waiting atomic.Int64
	ended   context.Context // what is under way ends with it
	end     context.CancelFunc

	mu     sync.Mutex
	failed time.Time // when that was last said; zero: the collector works
}

func newExporter(to trace.SpanExporter, count Counter, log *slog.Logger) *exporter {
	x := &exporter{SpanExporter: to, count: count, log: log}
	x.ended, x.end = context.WithCancel(context.Background())
	return x
}

// ExportSpans implements trace.SpanExporter. It logs its error itself.
func (x *exporter) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(x.ended, cancel)()
	err := x.SpanExporter.ExportSpans(ctx, spans)
	x.waiting.Add(-int64(len(spans)))
	x.told(err)
	if err != nil {
		x.count.Failed(len(spans))
		return nil
	}
	x.count.Exported(len(spans))
	return nil
}

func (x *exporter) told(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case err == nil && !x.failed.IsZero():
		x.failed = time.Time{}
		x.log.Info("the collector of traces.endpoint takes spans again")
	case err != nil && (x.failed.IsZero() || time.Since(x.failed) >= remindAfter) && !errors.Is(x.ended.Err(), context.Canceled):
		x.failed = time.Now()
		x.log.Warn("the collector of traces.endpoint takes no spans; they are dropped and counted, and messages go on", "error", shortError(err))
	}
}
