package bridge

import (
	"context"
	"slices"
	"sync"

	"fleetbridge/mapping"
)

// Gate holds shadow messages back between a connection and the GET that tells which of them are stale, and
// during every other GET, while everything else passes. It is a Source in front of a Source; what it holds is bounded by what
// its source hands out unsettled: a few connections' at most, as Kept forgets those before.
type Gate struct {
	source Source
	held   []held      // only the taker uses it
	passed settlements // settles in order while something is held, or was until now

	pauses chan struct{} // a semaphore: one pause at a time

	mu     sync.Mutex
	closed bool
	paused bool
	closes int           // how often it was closed
	void   int           // what was held before this close comes again
	opened func()        // set while the taker waits at a closed gate
	busy   bool          // the taker is moving what the open gate let through
	idle   chan struct{} // set while a pause waits for the taker; closed when it is back
}

// held is a delivery, and the close before it was held.
type held struct {
	Delivery
	close int
}

// NewGate makes an open gate.
func NewGate(s Source) *Gate { return &Gate{source: s, pauses: make(chan struct{}, 1)} }

// Close holds shadow messages back from now on.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.closes++
}

// Kept forgets what was held before the last Close: the broker has kept the session and brings it again.
func (g *Gate) Kept() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.void = g.closes
}

// closings returns how often the gate was closed, and the close before which nothing is held any more.
func (g *Gate) closings() (closes, void int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closes, g.void
}

// Open lets them pass, the held ones first, for a connection that ctx ends with. When it has ended, nothing
// happens: the gate is closed for the next connection, or will be.
func (g *Gate) Open(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	g.closed = false
	g.wake()
}

// Pause holds shadow messages back until Resume, open or closed as the gate is otherwise. It returns when
// nothing that was let through before is still on its way to the sink: what the caller sends then is behind
// it, and before whatever is held. One pause is waited for by the next; with an error, when ctx ends first,
// there is none to resume.
func (g *Gate) Pause(ctx context.Context) error {
	select {
	case g.pauses <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	g.mu.Lock()
	g.paused = true
	idle := make(chan struct{})
	if g.busy {
		g.idle = idle
	} else {
		close(idle)
	}
	g.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		g.Resume()
		return ctx.Err()
	}
}

// Resume ends a pause.
func (g *Gate) Resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.paused, g.idle = false, nil
	g.wake()
	<-g.pauses
}

// wake tells the taker that the gate may be open. The caller holds the lock.
func (g *Gate) wake() {
	if !g.closed && !g.paused && g.opened != nil {
		g.opened()
	}
}

// back notes that the taker has seen everything to the sink that it took before.
func (g *Gate) back() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = false
	if g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// admit reports whether messages may pass. If so, the taker is busy with these n from now on.
func (g *Gate) admit(n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	open := !g.closed && !g.paused
	g.busy = open && n > 0
	return open
}

// shut reports whether the gate is closed; opened is called when it no longer is.
func (g *Gate) shut(opened func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = nil
	shut := g.closed || g.paused
	if shut {
		g.opened = opened
	}
	return shut
}

// Take implements Source.
func (g *Gate) Take(ctx context.Context) []Delivery {
	g.back()
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
	closes, void := g.closings()
	g.forget(void)
	open := g.admit(len(g.held) + len(ds))
	if len(g.held) > 0 || !g.passed.none() || !open && slices.ContainsFunc(ds, isShadow) {
		for i := range ds {
			ds[i].Settle = g.passed.expect(ds[i].Settle)
		}
	}
	if open {
		if len(g.held) == 0 {
			return ds
		}
		all := make([]Delivery, 0, len(g.held)+len(ds))
		for _, h := range g.held {
			all = append(all, h.Delivery)
		}
		g.held = nil
		return append(all, ds...)
	}
	rest := ds[:0]
	for _, d := range ds {
		if isShadow(d) {
			g.held = append(g.held, held{d, closes})
		} else {
			rest = append(rest, d)
		}
	}
	return rest
}

// forget drops what was held before a close. Its connection is lost, so its settlement only lets go what the source
// holds of it.
func (g *Gate) forget(close int) {
	g.held = slices.DeleteFunc(g.held, func(h held) bool {
		if h.close < close {
			h.Settle()
		}
		return h.close < close
	})
}

func isShadow(d Delivery) bool {
	return d.Address.Channel == mapping.ShadowDelta || d.Address.Channel == mapping.ShadowDesired
}
