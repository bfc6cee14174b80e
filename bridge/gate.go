package bridge

import (
	"context"
	"sync"

	"fleetbridge/mapping"
)

// Gate holds shadow messages back between a connection and the GET that tells which of them are stale,
// while everything else passes. It is a Source in front of a Source; what it holds is bounded by what
// its source hands out unsettled.
type Gate struct {
	source Source
	held   []Delivery // of the taker

	mu     sync.Mutex
	closed bool
	opened func() // set while the taker waits at a closed gate
}

// NewGate makes an open gate.
func NewGate(s Source) *Gate { return &Gate{source: s} }

// Close holds shadow messages back from now on.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// Open lets them pass, the held ones first.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
	if g.opened != nil {
		g.opened()
	}
}

// shut tells whether the gate is closed; opened is called when it no longer is.
func (g *Gate) shut(opened func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = nil
	if g.closed {
		g.opened = opened
	}
	return g.closed
}

// Take implements Source.
func (g *Gate) Take(ctx context.Context) []Delivery {
	for ctx.Err() == nil {
		if got := g.pass(g.wait(ctx)); len(got) > 0 {
			return got
		}
	}
	return nil
}

// wait takes from the source. It returns early when a closed gate opens.
func (g *Gate) wait(ctx context.Context) []Delivery {
	if !g.shut(nil) {
		if len(g.held) > 0 {
			return nil
		}
		return g.source.Take(ctx)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if !g.shut(stop) {
		return nil
	}
	return g.source.Take(ctx)
}

// pass keeps shadow messages back while the gate is closed; once it is open they go first.
func (g *Gate) pass(ds []Delivery) []Delivery {
	if !g.shut(nil) {
		if len(g.held) > 0 {
			ds, g.held = append(g.held, ds...), nil
		}
		return ds
	}
	rest := ds[:0]
	for _, d := range ds {
		if isShadow(d) {
			g.held = append(g.held, d)
		} else {
			rest = append(rest, d)
		}
	}
	return rest
}

func isShadow(d Delivery) bool {
	return d.Address.Channel == mapping.ShadowDelta || d.Address.Channel == mapping.ShadowDesired
}
