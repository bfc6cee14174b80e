// Package demo shows what fleetbridge does, in one process and on nothing but loopback: a simulated
// cloud with its broker, the real bridge with its embedded NATS server, and a program that uses it. The
// tour goes through every flow, prints each message that passes, and checks what came of it, in the
// cloud and in the bridge.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

// Thing is the one Thing of the demo.
const Thing = "thermostat-001"

// Options of the demo.
type Options struct {
	Out   io.Writer
	Color bool // Out is a terminal that shows colours
	Once  bool // end after the tour, instead of staying until ctx ends
	// Console makes the bridge's console, to which links are printed; nil: none. cloud has the simulated cloud do something.
	Console func(g *gateway.Gateway, cloud func(act string, body []byte) (id string, err error)) gateway.Page

	// For tests: what the cloud does wrong, how long a flow may take, and who is told of the stage
	// before the tour.
	misbehaviour fleetsim.Misbehaviour
	patience     time.Duration
	opened       func(*stage)
}

// Run gives the tour and, unless Once is set, stays until ctx ends. It is an error when a flow does not
// work, when something cannot be started or printed, and when ctx ends during a tour that is all there is
// to do. No files are left behind, and every port is free again.
func Run(ctx context.Context, o Options) error {
	if o.patience == 0 {
		o.patience = flowTime
	}
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := run(work, cancel, o)
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = nil
		if o.Once {
			err = errors.New("interrupted before the end of the tour")
		}
	}
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

// run returns ctx's error when ctx ended before the tour did.
func run(ctx context.Context, cancel context.CancelCauseFunc, o Options) (err error) {
	began := time.Now()
	s, err := open(ctx, cancel, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	s.account.header(s.addresses())
	total, failed := s.tour(ctx)
	if ctx.Err() != nil {
		s.account.printf("\n%sinterrupted\n", margin)
		return context.Cause(ctx)
	}
	s.account.summary(total, failed, time.Since(began))
	if len(failed) > 0 {
		err = fmt.Errorf("%d of %d flows do not work: %s", len(failed), total, strings.Join(failed, ", "))
	}
	if o.Once {
		return err
	}
	s.live(ctx)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	return err
}
