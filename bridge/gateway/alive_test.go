package gateway

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/services"
	"fleetbridge/mapping"
)

// What is stuck inside shows; what is away, or ends as it should, does not.
func TestAlive(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	subjects, err := mapping.NewSubjects("fleets")
	if err != nil {
		t.Fatal(err)
	}
	server, err := embedded.Start(embedded.Config{Subjects: subjects, Listen: "127.0.0.1:0", StoreDir: t.TempDir(), MaxPayload: 1 << 20,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	g := &Gateway{}
	if err := g.Alive(ctx); err == nil {
		t.Error("alive before it listens")
	}
	if g.nc, err = server.Connect("test"); err != nil {
		t.Fatal(err)
	}
	services, err := services.Serve(g.nc, &bridge.Requests{}, services.Config{Subjects: subjects, Version: "1.0.0", Log: g.log})
	if err != nil {
		t.Fatal(err)
	}
	g.services.Store(services)
	if err := g.Alive(ctx); err != nil {
		t.Error(err)
	}

	if err := services.Close(); err != nil {
		t.Fatal(err)
	}
	if err := g.Alive(ctx); err == nil {
		t.Error("alive, and the request service does not answer")
	}
	g.stopping.Store(true)
	if err := g.Alive(ctx); err != nil {
		t.Errorf("while it stops: %v", err)
	}
	g.stopping.Store(false)
	g.nc.Close()
	if err := g.Alive(ctx); err != nil {
		t.Errorf("without a connection to NATS: %v", err)
	}
}

// A request that waits in a line behind others says nothing about the process, as long as that line moves.
func TestAliveInAFlood(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		asked error
		came  uint64 // answers to others
		alive bool
	}{
		"an answer":                    {alive: true},
		"a refusal":                    {asked: errStarting},
		"no answer, others get theirs": {came: 1, alive: true},
		"no answer to anybody":         {came: 0, asked: context.DeadlineExceeded},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), aliveTimeout)
			defer cancel()
			var n atomic.Uint64
			ask := func(ctx context.Context) error {
				if n.Add(c.came); c.came == 0 && c.asked != context.DeadlineExceeded {
					return c.asked
				}
				<-ctx.Done()
				return ctx.Err()
			}
			if err := moves(ctx, ask, n.Load); (err == nil) != c.alive {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}
