package soak

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// clockJumps runs the core of one Thing with a clock that jumps between any two messages, and between
// the publishing of a message and its turn. The edges are lists in memory: the clock of the NATS server
// in the process cannot be set.
func clockJumps(w *World) {
	w.MayDie()
	c := newClockSite(w)
	jumps := []time.Duration{0, time.Second, 20 * time.Second, time.Minute, time.Hour, 100 * time.Hour, 200 * time.Hour, 24 * 365 * time.Hour, 55 * 24 * 365 * time.Hour}
	rounds := w.Pick(100, 2000)
	for range rounds {
		c.jump(jumps[w.Random.IntN(len(jumps))] * time.Duration(1-2*w.Random.IntN(2)))
		published := c.now()
		if w.Random.IntN(2) == 0 { // it waits in the queue over a jump
			c.jump(jumps[w.Random.IntN(len(jumps))] * time.Duration(1-2*w.Random.IntN(2)))
		}
		w.Fault()
		c.event(published)
		c.question(published)
		c.command(time.Now())
		w.Pause(time.Duration(w.Pick(0, 5)) * time.Millisecond) // lest it outnumbers everything else in the sums
	}
	if err := w.Ledger.Settled(w.Context()); err != nil {
		w.Fatal(err)
	}
	if err := c.wait(w.Context(), func() bool { return len(c.responses) == rounds }); err != nil {
		w.Error("some commands are not answered")
	}
	c.stop()
	c.judge()
}

const (
	clockThing  = "pump-01"
	maxAge      = 168 * time.Hour
	questionAge = 30 * time.Second
	skew        = 5 * time.Second
	clockAhead  = time.Minute // more is no clock to follow
)

// clockSite is a Thing's core between lists.
type clockSite struct {
	*World
	offset atomic.Int64 // of its clock from the right time
	stop   func()
	up     map[mapping.Kind]feed
	down   feed

	signal
	expired   map[string]bool // by lane and number: what the clock says must become of it
	dead      map[string]bool
	responses map[string]int
	last      int64 // timestamp of the last event
}

type feed chan bridge.Delivery

func (f feed) Take(ctx context.Context) []bridge.Delivery {
	select {
	case d := <-f:
		return []bridge.Delivery{d}
	case <-ctx.Done():
		return nil
	}
}

func newClockSite(w *World) *clockSite {
	c := &clockSite{
		World: w, up: map[mapping.Kind]feed{}, down: make(feed, 1),
		expired: map[string]bool{}, dead: map[string]bool{}, responses: map[string]int{},
	}
	queues := map[mapping.Kind]bridge.Source{}
	for _, kind := range mapping.Kinds {
		c.up[kind] = make(feed, 1)
		queues[kind] = c.up[kind]
	}
	catalog, err := schemas.New(schemas.Options{MaxBytes: 128 << 10, MaxDepth: 64})
	if err != nil {
		w.Fatal(err)
	}
	thing, err := bridge.NewThing(w.Context(), bridge.ThingConfig{
		Thing: clockThing, MaxBytes: 128 << 10, MaxAge: maxAge, Instance: "clock",
		Commands: bridge.CommandPolicy{Reject: true, HandlerWait: time.Second, DefaultTTL: time.Minute, ClockSkew: skew},
	}, bridge.Ports{
		Cloud: clockCloud{c}, Lanes: queues, Down: clockDown{c}, Graveyard: c, Archive: c, Outbox: c, Handlers: c,
		Shadows: newMemory(), Statuses: newMemory(), Executions: newMemory(), Leases: newMemory(), Marks: newMemory(),
		Catalog: catalog, Observer: c, Now: c.now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	ended := make(chan struct{})
	go func() { _ = thing.Run(ctx, ctx); close(ended) }()
	c.stop = sync.OnceFunc(func() { thing.Finish(); cancel(); <-ended })
	w.Cleanup(c.stop)
	return c
}

func (c *clockSite) now() time.Time { return time.Now().Round(0).Add(time.Duration(c.offset.Load())) }

func (c *clockSite) jump(d time.Duration) { c.offset.Store(int64(d)) }

// deliver hands a message in and waits until it is settled. expired is what the clock says of it.
func (c *clockSite) deliver(f feed, lane string, n uint64, expired bool, m bridge.Message) {
	c.Helper()
	key := fmt.Sprintf("%s %d", lane, n)
	c.Lock()
	c.expired[key] = expired
	c.Unlock()
	c.Ledger.Accepted(lane, n)
	settled := make(chan struct{})
	f <- bridge.Delivery{Message: m, Settle: func() { close(settled) }}
	select {
	case <-settled:
	case <-c.Context().Done():
		c.Fatalf("%s is never settled", key)
	}
}

// expires tells whether a message is too old by the clock. What was published before a clock was set, as
// one without a battery says at first, is not judged by it.
func (c *clockSite) expires(published time.Time, limit time.Duration) bool {
	return c.now().Sub(published) > limit && published.Year() >= 2025
}

func (c *clockSite) event(published time.Time) {
	lane := upLane(clockThing, mapping.Events)
	n := c.Ledger.Next(lane)
	c.deliver(c.up[mapping.Events], lane, n, c.expires(published, maxAge), bridge.Message{
		Address: mapping.Address{Thing: clockThing, Channel: mapping.Event, ID: "n"}, Received: published, Sequence: n,
		Payload: fmt.Appendf(nil, `{"eventType":"n","severity":"info","data":{"n":%d}}`, n),
	})
}

func (c *clockSite) question(published time.Time) {
	lane := "question/" + clockThing
	n := c.Ledger.Next(lane)
	c.deliver(c.up[mapping.Jobs], lane, n, c.expires(published, questionAge), bridge.Message{
		Address: mapping.Address{Thing: clockThing, Channel: mapping.JobsGet}, Received: published, Sequence: n,
		Payload: fmt.Appendf(nil, `{"clientToken":"%d"}`, n),
	})
}

// command is issued by a cloud whose clock is right.
func (c *clockSite) command(issued time.Time) {
	const ttl = time.Minute
	lane := commandLane(clockThing)
	n := c.Ledger.Next(lane)
	c.deliver(c.down, lane, n, c.now().Sub(issued.Truncate(time.Second).Add(ttl)) > skew, bridge.Message{
		Address:  mapping.Address{Thing: clockThing, Channel: mapping.CommandRequest, ID: fmt.Sprintf("%s%d", realCommand, n)},
		Received: c.now(), Payload: fmt.Appendf(nil, `{"action":"run","timestamp":%d,"ttl":%d}`, issued.Unix(), int(ttl.Seconds())),
	})
}

// came notes where a message ended.
func (c *clockSite) came(m bridge.Message, dead bool) {
	lane, n, ok := number(m.Address, m.Payload)
	switch m.Address.Channel {
	case mapping.JobsGet:
		lane, n, ok = "question/"+clockThing, gjson.GetBytes(m.Payload, "clientToken").Uint(), true
	case mapping.CommandRequest:
		lane = commandLane(clockThing)
		_, err := fmt.Sscanf(m.Address.ID, realCommand+"%d", &n)
		ok = err == nil
	}
	if !ok {
		return
	}
	c.Lock()
	c.dead[fmt.Sprintf("%s %d", lane, n)] = dead
	if at := gjson.GetBytes(m.Payload, "timestamp").Int(); m.Address.Channel == mapping.Event && !dead {
		if at <= c.last && c.last <= c.now().Add(clockAhead).UnixMilli() { // what was far ahead is not followed
			c.Errorf("event %d has the timestamp %d after %d", n, at, c.last)
		}
		c.last = at
	}
	c.Unlock()
	if dead {
		c.Ledger.Died(lane, n)
	} else {
		c.Ledger.Arrived(lane, n)
	}
}

// judge compares what became of each message with what the clock says.
func (c *clockSite) judge() {
	c.Lock()
	defer c.Unlock()
	for key, expired := range c.expired {
		if c.dead[key] != expired {
			c.Errorf("%s: expired by the clock: %t, in the dead letters: %t", key, expired, c.dead[key])
		}
		if n, ok := strings.CutPrefix(key, commandLane(clockThing)+" "); ok && c.responses[realCommand+n] != 1 {
			c.Errorf("command %s has %d responses", n, c.responses[realCommand+n])
		}
	}
}

// Bury is bridge.Graveyard.
func (c *clockSite) Bury(_ context.Context, l bridge.Letter, done func(error)) error {
	c.came(l.Message, true)
	done(nil)
	return nil
}

// Last is bridge.Archive: nothing is stored twice here.
func (c *clockSite) Last(context.Context, mapping.Address) (bridge.Message, error) {
	return bridge.Message{}, bridge.ErrNotFound
}

// Enqueue is bridge.Outbox: responses.
func (c *clockSite) Enqueue(_ context.Context, a mapping.Address, _ []byte, _ bridge.Trace) (bridge.Receipt, error) {
	c.Lock()
	defer c.Unlock()
	c.responses[a.ID]++
	c.notify()
	return bridge.Receipt{}, nil
}

// Pending is bridge.Outbox.
func (c *clockSite) Pending(context.Context, mapping.Address) (bool, error) { return false, nil }

// Listen is bridge.Handlers.
func (c *clockSite) Listen(mapping.Thing, string) (bridge.Line, error) { return clockLine{}, nil }

// clockLine is a handler that is done at once.
type clockLine struct{}

func (clockLine) Call(context.Context, bridge.Call) (bridge.Reply, error) { return bridge.Reply{}, nil }
func (clockLine) Wait(ctx context.Context) (bridge.Reply, error) {
	<-ctx.Done()
	return bridge.Reply{}, ctx.Err()
}
func (clockLine) Close() {}

// Outcome is bridge.Observer.
func (c *clockSite) Outcome(bridge.Fate) {}

// clockCloud is the broker, clockDown the stream.
type clockCloud struct{ *clockSite }

func (c clockCloud) Take(ctx context.Context) []bridge.Delivery { return c.down.Take(ctx) }

func (c clockCloud) Send(_ context.Context, m bridge.Message, done func(error)) error {
	c.came(m, false)
	done(nil)
	return nil
}

func (c clockCloud) Ask(_ context.Context, _ bridge.Message, done func(error)) error {
	done(nil)
	return nil
}

type clockDown struct{ *clockSite }

func (c clockDown) Send(_ context.Context, m bridge.Message, done func(error)) error {
	c.came(m, false)
	done(nil)
	return nil
}
