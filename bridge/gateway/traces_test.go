package gateway_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	collected "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	spanpb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

// collector takes spans as an OpenTelemetry collector does.
type collector struct {
	*httptest.Server
	mu       sync.Mutex
	changed  chan struct{} // closed when a request has come
	spans    []*spanpb.Span
	resource []*common.KeyValue
	header   http.Header
	raw      bytes.Buffer
	wrong    error // the first request that was none
}

func newCollector(t *testing.T) *collector {
	c := &collector{changed: make(chan struct{})}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if err := c.take(r); err != nil && c.wrong == nil {
			c.wrong = err
		}
		c.header = r.Header
		close(c.changed)
		c.changed = make(chan struct{})
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) take(r *http.Request) error {
	in := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return err
		}
		in = z
	}
	body, err := io.ReadAll(in)
	var q collected.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &q)
	}
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" {
		return fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, err)
	}
	c.raw.Write(body)
	for _, of := range q.ResourceSpans {
		c.resource = of.Resource.Attributes
		for _, some := range of.ScopeSpans {
			c.spans = append(c.spans, some.Spans...)
		}
	}
	return nil
}

// await returns the spans of a trace, by name, when these have come; an empty trace is any.
func (c *collector) await(ctx context.Context, t *testing.T, trace string, names ...string) map[string]*spanpb.Span {
	t.Helper()
	for {
		c.mu.Lock()
		out, changed := map[string]*spanpb.Span{}, c.changed
		for _, s := range c.spans {
			if trace == "" || hex.EncodeToString(s.TraceId) == trace {
				out[s.Name] = s
			}
		}
		wrong := c.wrong
		c.mu.Unlock()
		if wrong != nil {
			t.Fatal(wrong)
		}
		if !slices.ContainsFunc(names, func(n string) bool { return out[n] == nil }) {
			return out
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("of trace %s came %v, want %v", trace, keysOf(out), names)
		}
	}
}

func keysOf(m map[string]*spanpb.Span) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

// attrs are attributes as text.
func attrs(kvs []*common.KeyValue) map[string]string {
	out := map[string]string{}
	for _, kv := range kvs {
		switch v := kv.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			out[kv.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			out[kv.Key] = fmt.Sprint(v.IntValue)
		}
	}
	return out
}

// Every way a message goes is a span under the trace context that came along, with one for each hop. What it says is in none.
func TestTracesLeave(t *testing.T) {
	const canary = "canary"
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret-of-the-collector")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=hall-3")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
	c := newCollector(t)
	s := open(t, edit(func(cfg *gateway.Config) {
		cfg.Traces = gateway.Traces{Endpoint: c.URL, Sample: 1}
		cfg.Commands.HandlerWait = 50 * time.Millisecond
	}))
	ctx := s.context()
	publish := func(of span, event, payload string) {
		if _, err := s.js.PublishMsg(ctx, of.message("fleets.up.pump-07.events."+event, payload)); err != nil {
			t.Fatal(err)
		}
	}
	under := func(parent, child *spanpb.Span) {
		t.Helper()
		if !bytes.Equal(child.ParentSpanId, parent.SpanId) || child.StartTimeUnixNano < parent.StartTimeUnixNano || child.EndTimeUnixNano > parent.EndTimeUnixNano ||
			child.EndTimeUnixNano < child.StartTimeUnixNano {
			t.Errorf("%s is not in %s: %v in %v", child.Name, parent.Name, child, parent)
		}
	}

	// Up: each hop, in order.
	up := spanOf("1")
	publish(up, "hot", `{"eventType":"hot","severity":"info","data":{"note":"`+canary+`"}}`)
	got := c.await(ctx, t, strings.Repeat("1", 32), "up event", "queue", "check", "send", "acknowledge", "settle")
	if of := hex.EncodeToString(got["up event"].ParentSpanId); of != strings.Repeat("1", 16) {
		t.Errorf("the span's parent is %s, want the program's", of)
	}
	before := got["queue"]
	for _, name := range []string{"queue", "check", "send", "acknowledge", "settle"} {
		under(got["up event"], got[name])
		if got[name].StartTimeUnixNano < before.StartTimeUnixNano {
			t.Errorf("%s begins before %s", name, before.Name)
		}
		before = got[name]
	}
	for key, want := range map[string]string{"fleets.thing": "pump-07", "fleets.channel": "event", "fleets.id": "hot", "fleets.direction": "up", "fleets.outcome": "delivered",
		"messaging.destination.name": "fleets.up.pump-07.events.hot"} {
		if at := attrs(got["up event"].Attributes)[key]; at != want {
			t.Errorf("%s is %q, want %q", key, at, want)
		}
	}

	// A dead letter is an error, and says no more than its code. What the traceparent leaves out is left out.
	publish(span{"00-" + strings.Repeat("8", 32) + "-" + strings.Repeat("8", 16) + "-00", ""}, "hot", `{"eventType":"hot","severity":"info"}`)
	publish(spanOf("2"), "hot", `{"eventType":"hot","severity":"`+canary+`"}`)
	got = c.await(ctx, t, strings.Repeat("2", 32), "up event", "check", "bury")
	if dead := got["up event"]; dead.Status.GetCode() != spanpb.Status_STATUS_CODE_ERROR || dead.Status.GetMessage() != "schema" || attrs(dead.Attributes)["fleets.code"] != "schema" {
		t.Errorf("the dead letter is %v", dead)
	}

	// A command is one trace from the request to the response, with the cloud's context and without one.
	if _, err := s.nc.Subscribe("fleets.cmd.pump-07.turn", func(m *nats.Msg) { _ = m.Respond([]byte(`{"status":"SUCCEEDED","result":{"data":"` + canary + `"}}`)) }); err != nil || s.nc.Flush() != nil {
		t.Fatal(err)
	}
	flow := []string{"down command.request", "store", "call handler", "up command.response", "acknowledge"}
	s.down("$emqx/commands/things/pump-07/executions/x1/request", `{"action":"turn","params":{"note":"`+canary+`"}}`, fleetsim.PublishOptions{User: spanOf("3").user()})
	got = c.await(ctx, t, strings.Repeat("3", 32), flow...)
	for _, name := range []string{"down command.request", "call handler", "up command.response"} {
		if of := hex.EncodeToString(got[name].ParentSpanId); of != strings.Repeat("3", 16) {
			t.Errorf("%s: the parent is %s, want the cloud's", name, of)
		}
	}
	if a := attrs(got["call handler"].Attributes); a["fleets.action"] != "turn" || a["fleets.id"] != "x1" || a["fleets.outcome"] != "replied" {
		t.Errorf("the call says %v", a)
	}
	s.down("$emqx/commands/things/pump-07/executions/x2/request", `{"action":"turn"}`, fleetsim.PublishOptions{})
	var trace string
	for trace == "" {
		for name, of := range c.await(ctx, t, "", flow...) {
			if name == "down command.request" && attrs(of.Attributes)["fleets.id"] == "x2" {
				trace = hex.EncodeToString(of.TraceId)
			}
		}
	}
	got = c.await(ctx, t, trace, flow...)
	under(got["down command.request"], got["store"])
	for _, name := range []string{"call handler", "up command.response"} {
		if !bytes.Equal(got[name].ParentSpanId, got["down command.request"].SpanId) {
			t.Errorf("%s is not the request's", name)
		}
	}
	s.down("$emqx/commands/things/pump-07/executions/x3/request", `{"action":"nobody"}`, fleetsim.PublishOptions{User: spanOf("4").user()})
	got = c.await(ctx, t, strings.Repeat("4", 32), flow...)
	if call := got["call handler"]; call.Status.GetCode() != spanpb.Status_STATUS_CODE_ERROR || call.Status.GetMessage() != "REJECTED" {
		t.Errorf("the call of nobody is %v", call)
	}

	// A question, refused.
	if _, err := s.nc.RequestMsgWithContext(ctx, spanOf("5").message("fleets.req.pump-07.shadow.update", `{"state":"`+canary+`"}`)); err != nil {
		t.Fatal(err)
	}
	got = c.await(ctx, t, strings.Repeat("5", 32), "request shadow.report")
	if q := got["request shadow.report"]; attrs(q.Attributes)["fleets.code"] != "400" {
		t.Errorf("the question is %v", q)
	}

	s.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.header.Get("Authorization") != "Bearer secret-of-the-collector" {
		t.Error("OTEL_EXPORTER_OTLP_HEADERS was not taken")
	}
	if a := attrs(c.resource); a["service.name"] != "fleetbridge" || a["deployment.environment.name"] != "hall-3" || a["service.version"] != "0.0.0" {
		t.Errorf("the resource is %v", a)
	}
	for _, never := range []string{canary, "secret", strings.Repeat("\x88", 16)} {
		if bytes.Contains(c.raw.Bytes(), []byte(never)) {
			t.Errorf("%q has left the bridge", never)
		}
	}
}

// A collector that does not answer holds up neither messages nor a stop, and it is said.
func TestCollectorHangs(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
	t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "100")
	gone := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-gone:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(hangs.Close)
	t.Cleanup(func() { close(gone) })
	s := open(t, expect("the collector of traces.endpoint takes no spans"), edit(func(c *gateway.Config) { c.Traces = gateway.Traces{Endpoint: hangs.URL, Sample: 1} }))
	const events = 1000 // with five spans each more than may wait
	for range events {
		if _, err := s.js.PublishAsync("fleets.up.pump-07.events.hot", []byte(`{"eventType":"hot","severity":"info"}`)); err != nil {
			t.Fatal(err)
		}
	}
	s.await("fleetbridge_messages_total{channel=\"event\",direction=\"up\",outcome=\"delivered\"} 1000")
	s.await("fleetbridge_trace_spans_total{result=\"failed\"} ")
	s.stop()
}

// await waits for a line of /metrics with this beginning, and not 0.
func (s *site) await(line string) {
	s.t.Helper()
	ctx := s.context()
	for pause := shortPause; ; {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.gw.HTTPAddr()+"/metrics", nil)
		if err != nil {
			s.t.Fatal(err)
		}
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			s.t.Fatalf("no %s: %v", line, err)
		}
		text, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		for l := range strings.SplitSeq(string(text), "\n") {
			if strings.HasPrefix(l, line) && !strings.HasSuffix(l, " 0") {
				return
			}
		}
		select {
		case <-time.After(pause):
			pause = longer(pause)
		case <-ctx.Done():
			s.t.Fatalf("no %s in\n%s", line, text)
		}
	}
}
