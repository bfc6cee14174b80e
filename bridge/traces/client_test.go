package traces

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace"

	"fleetbridge/bridge"
)

type counts struct{ exported, failed, dropped int }

func (c *counts) Exported(n int) { c.exported += n }
func (c *counts) Failed(n int)   { c.failed += n }
func (c *counts) Dropped(n int)  { c.dropped += n }

// send sends one span to a collector.
func send(t *testing.T, collector string) (counts, string) {
	t.Helper()
	u, err := url.Parse(collector)
	if err != nil {
		t.Fatal(err)
	}
	var c counts
	var log bytes.Buffer
	tracer, err := New(Options{Endpoint: Endpoint(u), Sample: 1, Watch: &bridge.Watch{}, Count: &c, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	_, s := tracer.provider.Tracer("test").Start(t.Context(), "a")
	s.End()
	tracer.Close(t.Context())
	return c, log.String()
}

// TestRedirect: a collector that sends the bridge elsewhere gives nobody its token.
func TestRedirect(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=secret")
	asked := make(chan string, 8)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.Header.Get("X-Token") }))
	t.Cleanup(elsewhere.Close)
	for _, code := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		c := httptest.NewServer(http.RedirectHandler(elsewhere.URL, code))
		t.Cleanup(c.Close)
		got, log := send(t, c.URL)
		if got != (counts{failed: 1}) || !strings.Contains(log, http.StatusText(code)) {
			t.Errorf("%d: %+v, logged %q", code, got, log)
		}
	}
	select {
	case token := <-asked:
		t.Errorf("the redirect was followed, with the token %q", token)
	default:
	}
}

// TestWordyCollector: a collector that repeats what it was sent does not put its token into the log.
func TestWordyCollector(t *testing.T) {
	c := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "nobody knows "+r.Header.Get("Authorization")+" nor "+r.Header.Get("X-Key"), http.StatusForbidden)
	}))
	t.Cleanup(c.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20t0k3n-of-traces,x-key=an0ther-key")
	if got, log := send(t, c.URL); got != (counts{failed: 1}) || !strings.Contains(log, "nobody knows …") || strings.Contains(log, "t0k3n") || strings.Contains(log, "an0ther") {
		t.Errorf("%+v, logged %q", got, log)
	}
}

// TestCertificates: the variables say whom an https collector may be signed by, and who the bridge is.
func TestCertificates(t *testing.T) {
	c := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(c.Close)
	c.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	dir := t.TempDir()
	ca, empty := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "empty.pem")
	huge := filepath.Join(dir, "huge.pem") // reading it would take all memory
	if err := errors.Join(os.WriteFile(huge, nil, 0o600), os.Truncate(huge, 1<<40), os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw}), 0o600), os.WriteFile(empty, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if got, _ := send(t, c.URL); got != (counts{failed: 1}) {
		t.Errorf("signed by nobody: %+v", got)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", ca)
	if got, log := send(t, c.URL); got != (counts{exported: 1}) {
		t.Errorf("%+v, logged %q", got, log)
	}
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": empty,
		"OTEL_EXPORTER_OTLP_CERTIFICATE":        huge,
		"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": ca,
		"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT":     "1s",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			if _, err := newClient(); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("no error with the name, but %v", err)
			}
		})
	}
}

// answers are of a collector, one after the other.
type answers []error

func (a *answers) ExportSpans(context.Context, []trace.ReadOnlySpan) error {
	err := (*a)[0]
	*a = (*a)[1:]
	return err
}
func (*answers) Shutdown(context.Context) error { return nil }

// TestFlaps: a collector that fails now and then does not fill the log.
func TestFlaps(t *testing.T) {
	var a answers
	for range 20 {
		a = append(a, errors.New("no room"), nil, errors.New("another reason"))
	}
	var log bytes.Buffer
	x := newExporter(&a, &counts{}, slog.New(slog.NewTextHandler(&log, nil)))
	for len(a) > 0 {
		_ = x.ExportSpans(t.Context(), []trace.ReadOnlySpan{nil})
	}
	if got := log.String(); strings.Count(got, "\n") != 2 || strings.Count(got, "takes no spans") != 1 {
		t.Errorf("logged:\n%s", got)
	}
}
