package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"fleetbridge/mapping"
)

// Readiness is asked on each request for /healthz and /readyz.
type Readiness interface {
	// Alive is nil while the process works, whatever is away. It returns when ctx ends.
	Alive(ctx context.Context) error
	// Stored is nil while the store works, full or not: the embedded server's JetStream is up.
	Stored() error
	// Ready lists why a message could not be taken now, or would not be passed on, as of a kind of which the broker takes
	// nothing; empty: it could and would be. It
	// must not block for longer than ctx.
	Ready(ctx context.Context) []NotReady
}

// NotReady is one reason why a gateway is not ready.
type NotReady struct {
	// Thing is empty when the reason concerns the whole gateway, such as NATS.
	Thing string `json:"thing"`
	// Part is what does not work: one of the Parts, or a kind that stands still, as "events".
	Part   string `json:"part"`
	Reason string `json:"reason"`
}

// The parts that may not be ready. Of the gateway:
const (
	PartGateway = "gateway" // it starts, or does not answer
	PartNATS    = "nats"    // there is no connection
	PartStore   = "store"   // streams or buckets don't take messages
)

// Of a Thing:
const (
	PartConnection   = "connection"   // to the broker
	PartSubscription = "subscription" // the broker has not granted it all
)

// readyTimeout is how long /readyz waits before it says that nobody answered; probes commonly give
// up after a second or more.
const readyTimeout = 900 * time.Millisecond

// aliveTimeout is how long /healthz waits; whoever probes may give up before.
const aliveTimeout = 5 * time.Second

// handler serves the three pages.
type handler struct {
	readiness Readiness
	things    func() []mapping.Thing
}

// NewHandler serves /healthz, /readyz and /metrics. /readyz lists the Things of the metrics.
func NewHandler(r Readiness, m *Metrics) http.Handler {
	h := handler{r, m.Things}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", h.alive)
	mux.HandleFunc("GET /readyz", h.ready)
	mux.Handle("GET /metrics", m)
	return mux
}

// alive answers 200 or 503.
func (h handler) alive(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), aliveTimeout)
	defer cancel()
	body := "ok\n"
	noStore(w, "text/plain; charset=utf-8")
	if err := errors.Join(h.readiness.Alive(ctx), h.readiness.Stored()); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		body = err.Error() + "\n"
	}
	_, _ = io.WriteString(w, body)
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
	// Cluster is there when the bridge is one of several.
	Cluster *Standing `json:"cluster,omitempty"`
}

// Standing is this bridge's place among others. One that stands by is ready when it could take over.
type Standing struct {
	State  string `json:"state"`  // active or standby
	Active string `json:"active"` // the ids of the bridges that have Things; empty: none
	Shards int    `json:"shards"` // whose Things this bridge has
}

// clustered is a Readiness in a cluster.
type clustered interface {
	Standing() (s Standing, in bool)
}

// ready answers 200 or 503. A Thing is ready when nothing is said against it.
func (h handler) ready(w http.ResponseWriter, r *http.Request) {
	things := h.things()
	body := readyBody{Things: make(map[string]bool, len(things)), Problems: h.ask(r.Context())}
	if c, may := h.readiness.(clustered); may {
		if s, in := c.Standing(); in {
			body.Cluster = &s
		}
	}
	for _, t := range things {
		body.Things[string(t)] = true
	}
	for _, p := range body.Problems {
		if _, there := body.Things[p.Thing]; there {
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
		return []NotReady{{Part: PartGateway, Reason: "the gateway did not say in time whether it is ready"}}
	}
}
