package gateway

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"fleetbridge/mapping"
)

// Readiness is asked on each request for /readyz.
type Readiness interface {
	// Ready lists what is not ready; empty: NATS is up and every Thing is connected and subscribed. It
	// must not block for longer than ctx.
	Ready(ctx context.Context) []NotReady
}

// NotReady is one reason why a gateway is not ready.
type NotReady struct {
	// Thing is empty when the reason concerns the whole gateway, such as NATS.
	Thing  string `json:"thing"`
	Reason string `json:"reason"`
}

// readyTimeout is how long /readyz waits before it says that nobody answered; probes commonly give
// up after a second or more.
const readyTimeout = 900 * time.Millisecond

// handler serves the three pages.
type handler struct {
	readiness Readiness
	things    []mapping.Thing
}

// NewHandler serves /healthz, /readyz and /metrics. /readyz lists the Things of the metrics.
func NewHandler(r Readiness, m *Metrics) http.Handler {
	h := handler{r, m.things}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		noStore(w, "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /readyz", h.ready)
	mux.Handle("GET /metrics", m)
	return mux
}

func noStore(w http.ResponseWriter, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
}

// readyBody is what /readyz answers.
type readyBody struct {
	Ready bool `json:"ready"`
	// Things tells of each whether it is ready.
	Things   map[string]bool `json:"things"`
	Problems []NotReady      `json:"problems"`
}

// ready answers 200 or 503. A Thing is ready when nothing is said against it.
func (h handler) ready(w http.ResponseWriter, r *http.Request) {
	body := readyBody{Things: make(map[string]bool, len(h.things)), Problems: h.ask(r.Context())}
	for _, t := range h.things {
		body.Things[string(t)] = true
	}
	for _, p := range body.Problems {
		if p.Thing != "" {
			body.Things[p.Thing] = false
		}
	}
	body.Ready = len(body.Problems) == 0
	noStore(w, "application/json")
	if !body.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body)
}

// ask returns what Ready says, never nil. A Ready that overstays is a problem, not a hanging probe.
func (h handler) ask(ctx context.Context) []NotReady {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	answer := make(chan []NotReady, 1)
	go func() { answer <- h.readiness.Ready(ctx) }()
	select {
	case problems := <-answer:
		return append([]NotReady{}, problems...)
	case <-ctx.Done():
		return []NotReady{{Reason: "the gateway did not say in time whether it is ready"}}
	}
}
