package traces

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
)

const (
	// maxSpans wait for the collector, or are under way to it, at most: about 4 MiB. What is more is dropped and counted.
	maxSpans = 4096
	// remindAfter is the least time between two warnings about a collector that fails.
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

	mu   sync.Mutex
	said time.Time // when it was last said that the collector fails
	open bool      // that is the last that was said
	more int       // spans that failed since, or before
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
	x.told(err, len(spans))
	if err != nil {
		x.count.Failed(len(spans))
		return nil
	}
	x.count.Exported(len(spans))
	return nil
}

// told says what became of some spans, for a collector that fails now and then no more often than for one that always does.
func (x *exporter) told(err error, spans int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err == nil {
		if x.open {
			x.open = false
			x.log.Info("the collector of traces.endpoint takes spans again")
		}
		return
	}
	x.more += spans
	if time.Since(x.said) < remindAfter || x.ended.Err() != nil {
		return
	}
	x.log.Warn("the collector of traces.endpoint takes no spans; they are dropped and counted, and messages go on", "spans", x.more, "error", shortError(err))
	x.said, x.open, x.more = time.Now(), true, 0
}
