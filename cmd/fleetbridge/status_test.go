package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// pagesOf serves what a bridge says of itself.
func pagesOf(t *testing.T, code int, ready, metrics string) string {
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(ready))
	})
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(metrics)) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

const someMetrics = `# TYPE fleetbridge_build_info gauge
fleetbridge_build_info{commit="c",goversion="go1",version="1.2.3"} 1
# TYPE fleetbridge_store_writable gauge
fleetbridge_store_writable 1
# TYPE fleetbridge_ready gauge
fleetbridge_ready{thing="hall:1"} 1
fleetbridge_ready{thing="pump-07"} 0
# TYPE fleetbridge_mqtt_connected gauge
fleetbridge_mqtt_connected{thing="hall:1"} 1
fleetbridge_mqtt_connected{thing="pump-07"} 1
# TYPE fleetbridge_subscribed gauge
fleetbridge_subscribed{thing="hall:1"} 1
fleetbridge_subscribed{thing="pump-07"} 1
# TYPE fleetbridge_queued_messages gauge
fleetbridge_queued_messages{thing="hall:1"} 0
fleetbridge_queued_messages{thing="pump-07"} 1102
# TYPE fleetbridge_oldest_message_age_seconds gauge
fleetbridge_oldest_message_age_seconds{thing="pump-07"} 252.4
# TYPE fleetbridge_stalled gauge
fleetbridge_stalled{kind="events",thing="pump-07"} 1
fleetbridge_stalled{kind="jobs",thing="pump-07"} 0
# TYPE fleetbridge_dead_letters_total counter
fleetbridge_dead_letters_total{code="schema",direction="up"} 12
fleetbridge_dead_letters_total{code="refused",direction="up"} 5
fleetbridge_dead_letters_total{code="schema",direction="down"} 0
`

func TestStatus(t *testing.T) {
	problems := `{"ready":false,"things":{},"problems":[{"thing":"","part":"store","reason":"the disk is full"},{"thing":"pump-07","part":"events","reason":"events stand still"}]}`
	url := pagesOf(t, http.StatusServiceUnavailable, problems, someMetrics)
	want := `fleetbridge 1.2.3  NOT READY  1 of 2 Things ready, 1102 messages wait, the oldest for 4m12s
  store: the disk is full
dead letters since the start: up refused 5, up schema 12; fleetbridge dead ls tells why

THING    LINK       QUEUED  OLDEST  STATE
hall:1   connected  0       -       ready
pump-07  connected  1102    4m12s   events stand still
`
	if got := invoke(t, []string{"status", "--url", url}, ""); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var said status
	if err := json.Unmarshal([]byte(invoke(t, []string{"status", "--json", "--url", url}, "")), &said); err != nil {
		t.Fatal(err)
	}
	if said.Ready || !said.StoreWritable || said.Queued != 1102 || len(said.Things) != 2 || said.Things[1].Stalled[0] != "events" || len(said.Problems) != 2 {
		t.Errorf("got %+v", said)
	}
}

// TestStatusOfMany: of many Things those are listed that have something to tell.
func TestStatusOfMany(t *testing.T) {
	var metrics strings.Builder
	metrics.WriteString("# TYPE fleetbridge_ready gauge\n")
	for i := range 30 {
		metrics.WriteString(`fleetbridge_ready{thing="t` + string(rune('a'+i)) + "\"} 1\n")
	}
	metrics.WriteString("# TYPE fleetbridge_queued_messages gauge\nfleetbridge_queued_messages{thing=\"tb\"} 7\n")
	url := pagesOf(t, http.StatusOK, `{"ready":true,"problems":[]}`, metrics.String())
	got := invoke(t, []string{"status", "--url", url}, "")
	if !strings.Contains(got, "29 more are ready") || !strings.Contains(got, "tb ") || strings.Contains(got, "tc ") {
		t.Errorf("got\n%s", got)
	}
	if got := invoke(t, []string{"status", "--all", "--url", url}, ""); !strings.Contains(got, "tc ") || strings.Contains(got, "more are ready") {
		t.Errorf("--all: got\n%s", got)
	}
}

func TestStatusOfSomethingElse(t *testing.T) {
	for _, c := range []struct{ ready, metrics, want string }{
		{"<html>", someMetrics, "/readyz: no bridge answers so: 200 OK"},
		{`{"ready":true}`, "no metrics { ", "/metrics: no bridge answers so: 200 OK"},
	} {
		got := invoke(t, []string{"status", "--url", pagesOf(t, http.StatusOK, c.ready, c.metrics)}, "")
		if !strings.Contains(got, c.want) || !strings.HasSuffix(got, "[1]\n") {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
