package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// readyFunc is a Readiness.
type readyFunc func(context.Context) []NotReady

func (f readyFunc) Ready(ctx context.Context) []NotReady { return f(ctx) }
func (f readyFunc) Alive(context.Context) error          { return nil }
func (f readyFunc) Stored() error                        { return nil }

// hung is a gateway that does not answer.
type hung struct{ readyFunc }

func (hung) Alive(context.Context) error { return errors.New("did not answer") }

func TestHealthOfAHungGateway(t *testing.T) {
	t.Parallel()
	h := NewHandler(hung{func(context.Context) []NotReady { return nil }}, testMetrics())
	if code, body := get(t, h, "/healthz"); code != 503 || body != "did not answer\n" {
		t.Errorf("got %d %q", code, body)
	}
}

// storeless is a gateway whose disk has refused a write.
type storeless struct{ readyFunc }

func (storeless) Stored() error { return errors.New("the disk has refused a write") }

func TestHealthWithoutAStore(t *testing.T) {
	t.Parallel()
	h := NewHandler(storeless{func(context.Context) []NotReady { return nil }}, testMetrics())
	if code, body := get(t, h, "/healthz"); code != 503 || body != "the disk has refused a write\n" {
		t.Errorf("got %d %q", code, body)
	}
}

func TestHealthPages(t *testing.T) {
	t.Parallel()
	var problems []NotReady
	h := NewHandler(readyFunc(func(context.Context) []NotReady { return problems }), testMetrics())
	check := func(path string, status int, body string) {
		t.Helper()
		if code, got := get(t, h, path); code != status || !strings.Contains(got, body) {
			t.Errorf("%s: got %d %q, want %d %q", path, code, got, status, body)
		}
	}
	check("/healthz", 200, "ok\n")
	check("/readyz", 200, `{"ready":true,"things":{"pump 8":true,"pump-07":true},"problems":[]}`+"\n")
	check("/metrics", 200, "fleetbridge_messages_total")
	check("/", 404, "")

	problems = []NotReady{{"pump-07", PartSubscription, "not subscribed"}, {"", PartNATS, "not connected to NATS"}}
	check("/healthz", 200, "ok\n")
	check("/readyz", 503, `{"ready":false,"things":{"pump 8":true,"pump-07":false},`+
		`"problems":[{"thing":"pump-07","part":"subscription","reason":"not subscribed"},{"thing":"","part":"nats","reason":"not connected to NATS"}]}`)

	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/readyz", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/readyz", nil))
	if w.Code != 503 || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
}

// A gateway that can't say whether it is ready is not; the probe gets its answer all the same.
func TestReadyDoesNotHang(t *testing.T) {
	t.Parallel()
	released := make(chan struct{})
	defer close(released)
	h := NewHandler(readyFunc(func(context.Context) []NotReady { <-released; return nil }), testMetrics())
	code, body := get(t, h, "/readyz")
	if code != 503 || !strings.Contains(body, "did not say in time") {
		t.Errorf("got %d %q", code, body)
	}
}
