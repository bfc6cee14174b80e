package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fleetbridge/bridge/local/services"
)

// errStarting is the answer of a gateway whose parts are not all there yet.
var errStarting = errors.New("starting")

// Alive reports whether the process works: the state of every session can be had, and a request goes
// through the NATS server to the bridge's own service and back, or at least those of others do. What is merely away is no fault of the
// process: the broker, an external NATS server, a disk that is full. It returns when ctx ends. Before
// Listening it fails with the embedded server; a gateway that waits for an external one is alive.
func (g *Gateway) Alive(ctx context.Context) error {
	service := g.services.Load()
	if service == nil {
		if g.awaited.Load() != nil {
			return nil
		}
		return errStarting
	}
	answer := make(chan error, 1)
	go func() { answer <- g.alive(ctx, service) }() // if a lock is never released, this goroutine hangs, and not the probe
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the gateway did not answer in time: %w", context.Cause(ctx))
	}
}

// Stored implements Readiness. A supervisor's watchdog does not ask it, because a restart makes no room on a disk.
func (g *Gateway) Stored() error {
	if g.server == nil || g.services.Load() == nil || g.stopping.Load() || g.server.Working().Err() == nil {
		return nil
	}
	return errors.New("the store does not work: the disk has refused a write")
}

func (g *Gateway) alive(ctx context.Context, service *services.Service) error {
	for _, t := range g.all() {
		t.session.State()
	}
	away := func() bool { return g.stopping.Load() || !g.nc.IsConnected() } // which waits behind what is sent
	ask := func(ctx context.Context) error {
		if away() {
			return nil
		}
		if err := service.Ping(ctx); err != nil && !away() {
			return err
		}
		return nil
	}
	return moves(ctx, ask, service.Answered)
}

// movesAfter is how long an answer may take before it counts that others get answers.
const movesAfter = 500 * time.Millisecond

// moves asks, and waits for the answer. While programs flood, it is far behind in a line: then it is enough that those before
// it get their answers, which are counted.
func moves(ctx context.Context, ask func(context.Context) error, answered func() uint64) error {
	before, answer := answered(), make(chan error, 1)
	go func() { answer <- ask(ctx) }()
	look := time.NewTicker(movesAfter)
	defer look.Stop()
	for {
		select {
		case err := <-answer:
			return err
		case <-look.C:
			if answered() != before {
				return nil
			}
		}
	}
}
