package traces

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// spans makes them of sightings.
type spans struct{ tracer trace.Tracer }

// Saw implements bridge.Viewer.
func (t spans) Saw(s *bridge.Sighting) {
	switch s.Outcome {
	case bridge.Delivered, bridge.Duplicate, bridge.Dead:
		t.message(s)
	case bridge.Answered:
		t.single(s, "request "+string(s.Address.Channel), trace.SpanKindServer)
	case bridge.Replied, bridge.Decided:
		if s.Outcome == bridge.Replied || s.Took > 0 { // somebody was called
			t.single(s, "call handler", trace.SpanKindClient)
		}
	}
}

// single is a span without hops.
func (t spans) single(s *bridge.Sighting, name string, kind trace.SpanKind) {
	_, span := t.begin(s, name, kind, s.At.Add(-s.Took))
	t.end(span, s)
}

// message is a span from when the bridge became answerable for a message until its source need not hold it any more,
// with one for each hop.
func (t spans) message(s *bridge.Sighting) {
	taken := s.At.Add(-s.Took)
	begin := taken
	if r := s.Hops.Received; !r.IsZero() && r.Before(taken) {
		begin = r
	}
	name := s.Direction.String() + " " + string(s.Address.Channel)
	if s.Address.Channel == "" {
		name = s.Direction.String() + " unknown"
	}
	ctx, span := t.begin(s, name, trace.SpanKindConsumer, begin)
	if span.IsRecording() {
		t.hop(ctx, "queue", begin, taken)
		t.hops(ctx, s, taken)
	}
	t.end(span, s)
}

func (t spans) hops(ctx context.Context, s *bridge.Sighting, taken time.Time) {
	h := s.Hops
	if h.Decided == 0 { // nobody looked then
		return
	}
	at := taken.Add(h.Decided)
	t.hop(ctx, "check", taken, at)
	switch {
	case h.Done == 0: // nothing was sent
	case s.Direction == mapping.Up:
		sent := taken.Add(max(min(h.Sent, h.Done), h.Decided))
		t.hop(ctx, "send", at, sent)
		at = taken.Add(h.Done)
		t.hop(ctx, "acknowledge", sent, at)
	default:
		t.hop(ctx, "store", at, taken.Add(h.Done))
		at = taken.Add(h.Done)
	}
	if s.Outcome == bridge.Dead {
		t.hop(ctx, "bury", at, s.At)
	} else {
		t.hop(ctx, "settle", at, s.At)
	}
}

func (t spans) hop(ctx context.Context, name string, from, to time.Time) {
	kind := trace.SpanKindInternal
	if name == "acknowledge" {
		kind = trace.SpanKindProducer
	}
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(from), trace.WithSpanKind(kind))
	span.End(trace.WithTimestamp(to))
}

// begin opens a span under the trace context that came along. Without one, all that belongs to one command is one trace:
// its ids are made of the command's.
func (t spans) begin(s *bridge.Sighting, name string, kind trace.SpanKind, at time.Time) (context.Context, trace.Span) {
	ctx := parent(s.Trace)
	options := []trace.SpanStartOption{trace.WithTimestamp(at), trace.WithSpanKind(kind)}
	if command := ofCommand(s); command != (fixed{}) && !trace.SpanContextFromContext(ctx).IsValid() {
		rooted := context.WithValue(ctx, fixed{}, command)
		if s.Address.Channel == mapping.CommandRequest && s.Outcome != bridge.Duplicate {
			return t.tracer.Start(rooted, name, options...)
		}
		// The request's span as the parent, if the sampler would have it; this one is never ended, and so not sent.
		ctx, _ = t.tracer.Start(rooted, name)
	}
	return t.tracer.Start(ctx, name, options...)
}

// parent is a program's or the cloud's trace context; what is malformed is none.
func parent(t bridge.Trace) context.Context {
	if t.Parent == "" {
		return context.Background()
	}
	return propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": t.Parent, "tracestate": t.State})
}

// end says what became of it.
func (t spans) end(span trace.Span, s *bridge.Sighting) {
	if span.IsRecording() {
		span.SetAttributes(attributes(s)...)
		if s.Outcome == bridge.Dead || s.Outcome == bridge.Decided || s.Code != "" {
			span.SetStatus(codes.Error, text(s.Code))
		}
	}
	span.End(trace.WithTimestamp(s.At))
}

// attributes are what is known of a sighting, but its payload and its reason.
func attributes(s *bridge.Sighting) []attribute.KeyValue {
	out := []attribute.KeyValue{
		attribute.String("fleets.thing", text(string(s.Address.Thing))),
		attribute.String("fleets.direction", s.Direction.String()),
		attribute.String("fleets.outcome", string(s.Outcome)),
		attribute.Int("messaging.message.body.size", max(s.Size, len(s.Payload))),
	}
	for _, a := range []struct{ key, value string }{
		{"fleets.channel", string(s.Address.Channel)}, {"fleets.id", s.Address.ID}, {"fleets.action", s.Action}, {"fleets.code", s.Code},
		{"messaging.destination.name", s.Origin},
	} {
		if a.value != "" {
			out = append(out, attribute.String(a.key, text(a.value)))
		}
	}
	if s.Sequence != 0 {
		out = append(out, attribute.Int64("fleets.sequence", int64(s.Sequence)))
	}
	return out
}

// text makes a text from outside fit for a span: short, valid UTF-8, and a copy, so that the whole text can be freed.
func text(s string) string {
	const most = 256
	return strings.Clone(strings.ToValidUTF8(s[:min(len(s), most)], "\uFFFD"))
}

// fixed are ids that are made of something, not drawn.
type fixed struct {
	trace trace.TraceID
	span  trace.SpanID
}

// ofCommand is the span of the request of an execution; zero: it is about none.
func ofCommand(s *bridge.Sighting) (out fixed) {
	if c := s.Address.Channel; c != mapping.CommandRequest && c != mapping.CommandResponse || s.Address.ID == "" {
		return out
	}
	sum := sha256.Sum256([]byte("fleetbridge command\x00" + string(s.Address.Thing) + "\x00" + s.Address.ID))
	copy(out.trace[:], sum[:16])
	copy(out.span[:], sum[16:24])
	return out
}

// ids draws ids, or takes those that the context has.
type ids struct{}

func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if f, ok := ctx.Value(fixed{}).(fixed); ok {
		return f.trace, f.span
	}
	var t trace.TraceID
	_, _ = rand.Read(t[:]) // never fails
	return t, ids{}.NewSpanID(ctx, t)
}

func (ids) NewSpanID(context.Context, trace.TraceID) (s trace.SpanID) {
	_, _ = rand.Read(s[:])
	return s
}
