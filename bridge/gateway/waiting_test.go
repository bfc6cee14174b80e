package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/bridge/gateway"
)

// said passes on the messages of a log.
type said chan string

func (s said) Enabled(context.Context, slog.Level) bool { return true }
func (s said) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s said) WithGroup(string) slog.Handler            { return s }
func (s said) Handle(_ context.Context, r slog.Record) error {
	select {
	case s <- r.Level.String() + " " + r.Message:
	default:
	}
	return nil
}

// waits runs a bridge whose NATS server is not there, and returns when it has said that it waits.
func waits(t *testing.T, ctx context.Context) (gw *gateway.Gateway, natsAddress string, log said, ended chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	natsAddress = l.Addr().String()
	_ = l.Close()
	cfg := gateway.Default()
	cfg.MQTT.Server = []string{"mqtt://127.0.0.1:1"}
	cfg.Things = []gateway.Thing{{Name: "pump-07", ClientID: "pump-07"}}
	cfg.NATS.URL = gateway.NATSURL("nats://user:hunter2@" + natsAddress)
	cfg.HTTP.Listen = "127.0.0.1:0"
	log, ended = make(said, 1000), make(chan error, 1)
	gw, err = gateway.New(cfg, gateway.Build{Version: "0.0.0"}, slog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- gw.Run(ctx) }()
	for {
		select {
		case line := <-log:
			if strings.Contains(line, "waiting for the NATS server") {
				return gw, natsAddress, log, ended
			}
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		case <-ctx.Done():
			t.Fatal("it does not wait")
		}
	}
}

func page(t *testing.T, ctx context.Context, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// A bridge that waits for its NATS server is alive and says what it waits for; when the server comes, the
// same pages go on.
func TestPagesWhileNATSIsAway(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	gw, address, _, ended := waits(t, ctx)
	base := "http://" + gw.HTTPAddr()
	if code, body := page(t, ctx, base+"/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	code, body := page(t, ctx, base+"/readyz")
	var ready struct {
		Ready    bool
		Things   map[string]bool
		Problems []gateway.NotReady
	}
	if err := json.Unmarshal([]byte(body), &ready); err != nil || code != 503 || ready.Ready || ready.Things["pump-07"] || len(ready.Problems) == 0 ||
		!strings.HasPrefix(ready.Problems[0].Reason, "not connected to NATS: nats.url nats://"+address+": ") || strings.Contains(body, "hunter2") {
		t.Errorf("readyz: %d %s, %v", code, body, err)
	}
	if code, body := page(t, ctx, base+"/metrics"); code != 200 || !strings.Contains(body, "fleetbridge_build_info") || strings.Contains(body, "fleetbridge_queued_messages{") {
		t.Errorf("metrics: %d %s", code, body)
	}

	host, port, _ := net.SplitHostPort(address)
	s, err := server.NewServer(&server.Options{Host: host, Port: number(t, port), Username: "user", Password: "hunter2", JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	select {
	case <-gw.Listening():
	case err := <-ended:
		t.Fatalf("ended: %v", err)
	case <-ctx.Done():
		t.Fatal("it does not start")
	}
	if base != "http://"+gw.HTTPAddr() {
		t.Errorf("the pages moved from %s to %s", base, gw.HTTPAddr())
	}
	if code, body := page(t, ctx, base+"/healthz"); code != 200 {
		t.Errorf("healthz: %d %q", code, body)
	}
	if code, body := page(t, ctx, base+"/readyz"); code != 503 || strings.Contains(body, "NATS") {
		t.Errorf("readyz: %d %q", code, body)
	}
	if code, body := page(t, ctx, base+"/metrics"); code != 200 || !strings.Contains(body, "fleetbridge_queued_messages{") {
		t.Errorf("metrics: %d %s", code, body)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// To be told to stop while it waits is no failure.
func TestStopWhileNATSIsAway(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, _, log, ended := waits(t, ctx)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	for len(log) > 0 {
		if line := <-log; !strings.HasPrefix(line, "INFO ") {
			t.Error(line)
		}
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
