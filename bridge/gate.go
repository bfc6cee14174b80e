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
	out    chan Delivery

	mu     sync.Mutex
	open   bool
	opened chan struct{} // closed when open is
}

// NewGate makes an open gate.
func NewGate(s Source) *Gate {
	g := &Gate{source: s, out: make(chan Delivery), open: true, opened: make(chan struct{})}
	close(g.opened)
	return g
}

// Deliveries implements Source.
func (g *Gate) Deliveries() <-chan Delivery { return g.out }

// Close holds shadow messages back from now on.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open {
		g.open, g.opened = false, make(chan struct{})
	}
}

// Open lets them pass, the held ones first.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open {
		g.open = true
		close(g.opened)
	}
}

func (g *Gate) state() (open bool, opened <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open, g.opened
}

// Run passes deliveries on until ctx ends.
func (g *Gate) Run(ctx context.Context) {
	var held []Delivery
	for {
		open, opened := g.state()
		if open {
			for _, d := range held {
				if !g.pass(ctx, d) {
					return
				}
			}
			held, opened = nil, nil
		}
		select {
		case <-ctx.Done():
			return
		case <-opened:
		case d := <-g.source.Deliveries():
			if open, _ := g.state(); isShadow(d) && (!open || len(held) > 0) {
				held = append(held, d)
			} else if !g.pass(ctx, d) {
				return
			}
		}
	}
}

func (g *Gate) pass(ctx context.Context, d Delivery) bool {
	select {
	case g.out <- d:
		return true
	case <-ctx.Done():
		return false
	}
}

func isShadow(d Delivery) bool {
	return d.Address.Channel == mapping.ShadowDelta || d.Address.Channel == mapping.ShadowDesired
}
