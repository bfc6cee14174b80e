package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// queues is a Scraped that knows, or does not.
type queues struct {
	n        map[mapping.Thing]uint64
	oldest   map[mapping.Thing]time.Time
	problems []NotReady
	err      error
}

func (q *queues) Oldest() map[mapping.Thing]time.Time { return q.oldest }

func (q *queues) Ready(context.Context) []NotReady { return q.problems }

func (q *queues) Accepted(context.Context) (uint64, error) { return 1234, q.err }

func (q *queues) Queued(context.Context) (map[mapping.Thing]uint64, error) { return q.n, q.err }

// get asks a handler for a page.
func get(t *testing.T, h http.Handler, path string) (status int, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(b)
}

// sample is the value of one series as the page shows it; empty when it is not there.
func sample(t *testing.T, m *Metrics, series string) string {
	t.Helper()
	_, page := get(t, m, "/metrics")
	for line := range strings.Lines(page) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func testMetrics() *Metrics {
	m := NewMetrics(Build{"v1.2.3", "abc"}, []mapping.Thing{"pump-07", "pump 8"})
	m.expiry.WithLabelValues("ca.pem", "mqtt.tls.ca_file").Set(2e9)
	return m
}

func TestOutcomesAreCounted(t *testing.T) {
	t.Parallel()
	m := testMetrics()
	now := time.Now()
	for _, f := range []bridge.Fate{
		{Direction: mapping.Up, Channel: mapping.Event, Outcome: bridge.Delivered, Taken: now.Add(-40 * time.Millisecond)},
		{Direction: mapping.Up, Channel: mapping.Event, Outcome: bridge.Delivered, Taken: now.Add(time.Hour)}, // a clock set back
		{Direction: mapping.Down, Channel: mapping.ShadowDelta, Outcome: bridge.Duplicate, Taken: now},
		{Direction: mapping.Up, Channel: mapping.JobsGet, Outcome: bridge.Dead, Code: bridge.CodeExpired, Taken: now},
		{Direction: mapping.Up, Outcome: bridge.Dead, Code: bridge.CodeSubject, Taken: now},
		{Direction: mapping.Down, Channel: "nonsense", Outcome: bridge.Dead, Code: "nonsense", Taken: now},
		{Direction: mapping.Down, Channel: mapping.ShadowDelta, Outcome: "nonsense", Taken: now},
	} {
		m.Outcome(f)
	}
	for series, want := range map[string]string{
		`fleetbridge_messages_total{channel="event",direction="up",outcome="delivered"}`:          "2",
		`fleetbridge_messages_total{channel="event",direction="up",outcome="dead"}`:               "0",
		`fleetbridge_messages_total{channel="shadow.delta",direction="down",outcome="duplicate"}`: "1",
		`fleetbridge_messages_total{channel="shadow.delta",direction="down",outcome="delivered"}`: "0",
		`fleetbridge_messages_total{channel="jobs.get",direction="up",outcome="dead"}`:            "1",
		`fleetbridge_messages_total{channel="unknown",direction="up",outcome="dead"}`:             "1",
		`fleetbridge_messages_total{channel="unknown",direction="down",outcome="dead"}`:           "1",
		`fleetbridge_messages_total{channel="shadow.delta",direction="up",outcome="delivered"}`:   "",
		`fleetbridge_dead_letters_total{code="expired",direction="up"}`:                           "1",
		`fleetbridge_dead_letters_total{code="subject",direction="up"}`:                           "1",
		`fleetbridge_dead_letters_total{code="unexpected",direction="down"}`:                      "1",
		`fleetbridge_dead_letters_total{code="refused",direction="down"}`:                         "0",
		`fleetbridge_forward_seconds_count{direction="up"}`:                                       "2",
		`fleetbridge_forward_seconds_bucket{direction="up",le="0.001"}`:                           "1",
		`fleetbridge_forward_seconds_bucket{direction="up",le="0.025"}`:                           "1",
		`fleetbridge_forward_seconds_count{direction="down"}`:                                     "0",
	} {
		if got := sample(t, m, series); got != want {
			t.Errorf("%s: got %q, want %q", series, got, want)
		}
	}
}

func TestCountingCostsNoAllocation(t *testing.T) {
	m := testMetrics()
	fates := []bridge.Fate{
		{Direction: mapping.Up, Channel: mapping.Event, Outcome: bridge.Delivered, Taken: time.Now()},
		{Direction: mapping.Down, Outcome: bridge.Dead, Code: bridge.CodeJSON, Taken: time.Now()},
	}
	if n := testing.AllocsPerRun(1000, func() {
		for _, f := range fates {
			m.Outcome(f)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestConnectedAndQueued(t *testing.T) {
	t.Parallel()
	m := testMetrics()
	q := &queues{n: map[mapping.Thing]uint64{"pump-07": 17}}
	m.Collect(q)
	m.Connected("pump-07", true)
	m.Connected("nobody", true)
	check := func(series, want string) {
		t.Helper()
		if got := sample(t, m, series); got != want {
			t.Errorf("%s: got %q, want %q", series, got, want)
		}
	}
	check(`fleetbridge_mqtt_connected{thing="pump-07"}`, "1")
	check(`fleetbridge_mqtt_connected{thing="pump 8"}`, "0")
	check(`fleetbridge_mqtt_connected{thing="nobody"}`, "")
	check(`fleetbridge_queued_messages{thing="pump-07"}`, "17")
	check(`fleetbridge_queued_messages{thing="pump 8"}`, "0")
	m.Connected("pump-07", false)
	check(`fleetbridge_mqtt_connected{thing="pump-07"}`, "0")
	q.err = errors.New("nobody knows")
	check(`fleetbridge_queued_messages{thing="pump-07"}`, "") // and the page is there all the same
	check(`fleetbridge_mqtt_connected{thing="pump-07"}`, "0")
}

// What /readyz says in words the metrics say in numbers.
func TestReadyInNumbers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		problems []NotReady
		want     map[string]string
	}{
		"well": {nil, map[string]string{`ready{thing="pump-07"}`: "1", `subscribed{thing="pump-07"}`: "1", `stalled{kind="events",thing="pump-07"}`: "0", "store_writable": "1"}},
		"one filter refused": {[]NotReady{{Thing: "pump-07", Part: PartSubscription}},
			map[string]string{`ready{thing="pump-07"}`: "0", `subscribed{thing="pump-07"}`: "0", `ready{thing="pump 8"}`: "1", "store_writable": "1"}},
		"events refused": {[]NotReady{{Thing: "pump-07", Part: "events"}},
			map[string]string{`ready{thing="pump-07"}`: "0", `subscribed{thing="pump-07"}`: "1", `stalled{kind="events",thing="pump-07"}`: "1", `stalled{kind="shadow",thing="pump-07"}`: "0"}},
		"disk full": {[]NotReady{{Part: PartStore}}, map[string]string{`ready{thing="pump-07"}`: "0", `ready{thing="pump 8"}`: "0", `subscribed{thing="pump-07"}`: "1", "store_writable": "0"}},
		"NATS away": {[]NotReady{{Part: PartNATS}}, map[string]string{`ready{thing="pump 8"}`: "0", "store_writable": "0"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := testMetrics()
			m.Collect(&queues{problems: c.problems})
			for series, want := range c.want {
				if got := sample(t, m, "fleetbridge_"+series); got != want {
					t.Errorf("%s: got %q, want %q", series, got, want)
				}
			}
		})
	}
}

func TestOldestMessage(t *testing.T) {
	t.Parallel()
	m := testMetrics()
	m.Collect(&queues{oldest: map[mapping.Thing]time.Time{"pump-07": time.Now().Add(-time.Hour)}})
	age, err := strconv.ParseFloat(sample(t, m, `fleetbridge_oldest_message_age_seconds{thing="pump-07"}`), 64)
	if err != nil || age < 3600 {
		t.Errorf("%v %v", age, err)
	}
	if got := sample(t, m, `fleetbridge_oldest_message_age_seconds{thing="pump 8"}`); got != "0" {
		t.Errorf("a Thing of which nothing waits: %q", got)
	}
}

// Every metric has a name in base units and a help text, and its labels are those that are promised.
func TestNames(t *testing.T) {
	t.Parallel()
	m := testMetrics()
	m.Collect(&queues{})
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "fleetbridge_") {
			continue
		}
		if f.GetHelp() == "" || regexp.MustCompile(`_(ms|millis|kb|percent)`).MatchString(f.GetName()) {
			t.Errorf("%s: help %q", f.GetName(), f.GetHelp())
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		got[f.GetName()] = strings.Join(labels, ",")
	}
	want := map[string]string{
		"fleetbridge_messages_total":                               "channel,direction,outcome",
		"fleetbridge_cloud_silent":                                 "thing",
		"fleetbridge_cluster_beat_age_seconds":                     "",
		"fleetbridge_cluster_fenced_writes_total":                  "",
		"fleetbridge_cluster_members":                              "state",
		"fleetbridge_cluster_shards_owned":                         "",
		"fleetbridge_cluster_suspect":                              "",
		"fleetbridge_cluster_other_settings":                       "",
		"fleetbridge_cluster_replies_removed_total":                "",
		"fleetbridge_cluster_takeover_seconds":                     "",
		"fleetbridge_cluster_takeovers_total":                      "",
		"fleetbridge_mqtt_connected":                               "thing",
		"fleetbridge_queued_messages":                              "thing",
		"fleetbridge_oldest_message_age_seconds":                   "thing",
		"fleetbridge_ready":                                        "thing",
		"fleetbridge_things_refused":                               "",
		"fleetbridge_subscribed":                                   "thing",
		"fleetbridge_stalled":                                      "kind,thing",
		"fleetbridge_store_writable":                               "",
		"fleetbridge_stray_publishes_total":                        "unknown",
		"fleetbridge_program_connections_total":                    "penalty",
		"fleetbridge_dead_letters_total":                           "code,direction",
		"fleetbridge_forward_seconds":                              "direction",
		"fleetbridge_accepted_messages_total":                      "",
		"fleetbridge_console_viewers":                              "",
		"fleetbridge_console_skipped_total":                        "",
		"fleetbridge_trace_spans_total":                            "result",
		"fleetbridge_build_info":                                   "commit,goversion,version",
		"fleetbridge_certificate_expiry_timestamp_seconds":         "file,use",
		"fleetbridge_config_last_reload_successful":                "",
		"fleetbridge_config_last_reload_success_timestamp_seconds": "",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, series := range []string{"go_goroutines", "process_start_time_seconds"} {
		if sample(t, m, series) == "" {
			t.Errorf("%s is missing", series)
		}
	}
}
