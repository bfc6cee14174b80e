package gateway

import (
	"context"
	"fmt"
	"sync"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// desks hands the requests of programs to the Things that there are at the time.
type desks struct {
	mu       sync.Mutex
	requests *bridge.Requests
	work     map[mapping.Thing]*desk
	moving   map[mapping.Thing]bool // of a cluster's: they come or go if they are not here
}

// desk counts the requests in work at one Thing.
type desk struct {
	work   sync.WaitGroup
	closed bool
}

// openDesks makes the requests of these Things answered, and no others.
func (g *Gateway) openDesks(ts []*thing) {
	if g.ownership != nil {
		moving := map[mapping.Thing]bool{}
		for _, t := range g.cfg.names() {
			moving[t] = true
		}
		g.desks.mu.Lock()
		g.desks.moving = moving
		g.desks.mu.Unlock()
	}
	g.desks.open(ts, &bridge.Requests{Things: map[mapping.Thing]*bridge.Desk{}, Timeout: g.cfg.Requests.Timeout, Watch: &g.watch.Watch, Log: g.log})
}

// open fills in the Things.
func (d *desks) open(ts []*thing, requests *bridge.Requests) {
	work := map[mapping.Thing]*desk{}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range ts {
		name := t.bridge.Name
		requests.Things[name] = t.bridge.Desk
		if d.requests != nil && d.requests.Things[name] == t.bridge.Desk {
			work[name] = d.work[name]
		} else {
			work[name] = &desk{}
		}
	}
	d.requests, d.work = requests, work
}

// close refuses new requests for these Things. wait waits for those that run.
func (d *desks) close(ts []*thing) (wait func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var closed []*desk
	for _, t := range ts {
		if w := d.work[t.bridge.Name]; w != nil {
			w.closed = true
			closed = append(closed, w)
		}
	}
	return func() {
		for _, w := range closed {
			w.work.Wait()
		}
	}
}

// Handle implements bridge.RequestHandler.
func (d *desks) Handle(ctx context.Context, q bridge.Request) (bridge.Response, error) {
	d.mu.Lock()
	requests, w := d.requests, d.work[q.Thing]
	if w != nil && w.closed || w == nil && d.moving[q.Thing] {
		d.mu.Unlock()
		return bridge.Response{}, &bridge.RequestError{Code: bridge.StatusOffline,
			Message: fmt.Sprintf("thing %q is being taken out or started anew, try again", q.Thing)}
	}
	if w != nil {
		w.work.Add(1)
		defer w.work.Done()
	}
	d.mu.Unlock()
	return requests.Handle(ctx, q)
}
