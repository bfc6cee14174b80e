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

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
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

// runWith runs a bridge with these external NATS servers.
func runWith(t *testing.T, ctx context.Context, urls ...string) (gw *gateway.Gateway, log said, ended chan error) {
	t.Helper()
	cfg := gateway.Default()
	cfg.MQTT.Server = []string{"mqtt://127.0.0.1:1"}
	cfg.Things = []gateway.Thing{{Name: "pump-07", ClientID: "pump-07"}}
	cfg.NATS.URL = gateway.NATSURL(strings.Join(urls, ","))
	cfg.NATS.Embedded.StoreDir = t.TempDir()
	cfg.HTTP.Listen = "127.0.0.1:0"
	log, ended = make(said, 1000), make(chan error, 1)
	gw, err := gateway.New(cfg, gateway.Build{Version: "0.0.0"}, slog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- gw.Run(ctx) }()
	return gw, log, ended
}

// waits runs a bridge whose NATS server is not there, and returns when it has said that it waits.
func waits(t *testing.T, ctx context.Context) (gw *gateway.Gateway, natsAddress string, log said, ended chan error) {
	t.Helper()
	natsAddress = fleetsim.Address(t)
	gw, log, ended = runWith(t, ctx, "nats://user:hunter2@"+natsAddress)
	waiting(t, ctx, log, ended)
	return gw, natsAddress, log, ended
}

// waiting returns when a bridge has said that it waits.
func waiting(t *testing.T, ctx context.Context, log said, ended chan error) {
	t.Helper()
	for {
		select {
		case line := <-log:
			if strings.Contains(line, "waiting for the NATS server") {
				return
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
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
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
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
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

// listens takes connections and gives them to f.
func listens(t *testing.T, f func(net.Conn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f(c)
		}
	}()
	return "nats://" + l.Addr().String()
}

// A server that is not there yet behind a proxy that is, such as a published port: it hangs up, resets, or is silent.
func TestNATSAwayBehindAProxy(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(net.Conn){
		"hangs up": func(c net.Conn) { _ = c.Close() },
		"resets":   func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); _ = c.Close() },
		"silent":   func(c net.Conn) { t.Cleanup(func() { _ = c.Close() }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			run, stop := context.WithCancel(t.Context()) // without a deadline, which would be the time to connect
			defer stop()
			_, log, ended := runWith(t, run, listens(t, f))
			waiting(t, ctx, log, ended)
			stop()
			if err := <-ended; err != nil {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// A stop does not wait for all the servers of a list to be silent, which takes seconds each.
func TestStopAtSilentServers(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	run, stop := context.WithCancel(t.Context())
	defer stop()
	tried := make(chan net.Conn, 6)
	var urls []string
	for range cap(tried) {
		urls = append(urls, listens(t, func(c net.Conn) { tried <- c }))
	}
	_, _, ended := runWith(t, run, urls...)
	select {
	case <-tried:
	case <-ctx.Done():
		t.Fatal("it does not connect")
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if n := len(tried); n == cap(tried)-1 {
		t.Error("it has tried them all before")
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

// TestHealthyIsListening: when the bridge is alive, as /healthz says, programs can connect.
func TestHealthyIsListening(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	address := fleetsim.Address(t)
	cfg := gateway.Default()
	cfg.MQTT.Server = []string{"mqtt://127.0.0.1:1"}
	cfg.Things = []gateway.Thing{{Name: "pump-07", ClientID: "pump-07"}}
	cfg.NATS.Embedded.Listen, cfg.NATS.Embedded.StoreDir, cfg.HTTP.Listen = address, t.TempDir(), "127.0.0.1:0"
	gw, err := gateway.New(cfg, gateway.Build{Version: "0.0.0"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- gw.Run(run) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for gw.Alive(ctx) != nil {
		if ctx.Err() != nil {
			t.Fatal("it never is")
		}
	}
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}
