package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHealthcheck(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"ready":false,"problems":[{"thing":"","reason":"not connected to NATS"},{"thing":"pump-07","reason":"not subscribed"}]}`))
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	_, port, _ := strings.Cut(address, ":")
	write := func(name, listen string) string {
		path := filepath.Join(t.TempDir(), name)
		text := "mqtt: {server: \"mqtt://broker\"}\nthings: [{name: pump-07}]\nhttp: {listen: \"" + listen + "\"}\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	silent, anywhere := write("silent.yaml", ""), write("anywhere.yaml", "0.0.0.0:"+port)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--config", write("gw.yaml", address)}, "ok\n"},
		{[]string{"--config", anywhere}, "ok\n"},
		{[]string{"--url", server.URL + "/"}, "ok\n"},
		{[]string{"--url", server.URL, "--ready"},
			"! fleetbridge: healthcheck: " + server.URL + "/readyz: 503 Service Unavailable: not connected to NATS; pump-07: not subscribed\n[1]\n"},
		{[]string{"--config", silent}, "! fleetbridge: healthcheck: http.listen is empty, so nobody can be asked; give it an address\n[1]\n"},
		{nil, "! fleetbridge: healthcheck: there is no configuration: give --config FILE, set FLEETBRIDGE_CONFIG, or write ./fleetbridge.yaml or /etc/fleetbridge/fleetbridge.yaml; fleetbridge init makes one\n[2]\n"},
		{[]string{"--config", silent, "--url", "http://a"}, "! fleetbridge: healthcheck: --config and --url are both given, keep one\n[2]\n"},
		{[]string{"--url", "a:1"}, "! fleetbridge: healthcheck: --url \"a:1\": write http://host:port\n[2]\n"},
		{[]string{"--url", "http://a", "--timeout", "0s"}, "! fleetbridge: healthcheck: --timeout 0s: must be more than 0\n[2]\n"},
	} {
		if got := invoke(t, append([]string{"healthcheck"}, c.args...), ""); got != c.want {
			t.Errorf("%q: got %q, want %q", c.args, got, c.want)
		}
	}
	server.Close()
	got := invoke(t, []string{"healthcheck", "--url", server.URL}, "")
	if !strings.HasPrefix(got, "! fleetbridge: healthcheck: ") || !strings.HasSuffix(got, "[1]\n") || strings.Count(got, "\n") != 2 {
		t.Errorf("nobody there: got %q", got)
	}
}
