package local

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/mapping"
)

// TestReadBeforeItIsTold: the journal's readers see a message before its committer says that it is there. It is handed out
// once.
func TestReadBeforeItIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	q, _ := r.run("pump", mapping.Events)
	r.publish(r.program(), "fleets.up.pump.events.x", "1")
	d := next(t, q)
	q.lane.put(q.last, &entry{subject: d.Origin, payload: d.Payload}, 1)
	if n := q.ready.len(); n != 0 {
		t.Errorf("%d once more", n)
	}
}

// chaos publishes for one Thing while its lanes are stopped, taken over, removed and taken again.
type chaos struct {
	t     *testing.T
	r     *rig
	thing mapping.Thing
	count int
	rand  *rand.Rand

	mu      sync.Mutex
	first   int          // the next number that was never handed out
	settled map[int]bool // numbers
}

// TestFeedChaos: every message that was accepted is handed out until it is settled, for the first time in the order of the
// lane, and each taker has it once.
func TestFeedChaos(t *testing.T) {
	t.Parallel()
	things := []mapping.Thing{"a", "b", "c"}
	r := newRigWith(t, embedded.Config{}, StoreConfig{Things: things, Window: 16})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const count = 400
	var all sync.WaitGroup
	for n, thing := range things {
		c := &chaos{t: t, r: r, thing: thing, count: count, rand: rand.New(rand.NewPCG(seed, uint64(n))), settled: map[int]bool{}}
		nc := r.program()
		all.Go(func() { c.publish(nc) })
		all.Go(c.consume)
	}
	all.Wait()
	for _, thing := range things { // what was settled too late comes once more
		q, _ := r.run(thing, mapping.Events)
		eventually(t, "all is settled", func() bool {
			for d, ok := soon(q, time.Millisecond); ok; d, ok = soon(q, time.Millisecond) {
				d.Settle()
			}
			return queuedOf(t, r, thing) == 0
		})
	}
	if n := r.spool.lent.Load(); n != 0 {
		t.Errorf("%d bytes are handed out", n)
	}
	for class := range r.spool.used {
		if n := r.spool.used[class].Load(); n != 0 {
			t.Errorf("class %d has %d bytes", class, n)
		}
	}
	if n, _ := r.spool.Accepted(testContext(t)); n != uint64(count*len(things)) {
		t.Errorf("%d are accepted", n)
	}
}

func (c *chaos) publish(nc *nats.Conn) {
	var open sync.WaitGroup
	for n := range c.count {
		m := nats.NewMsg("fleets.up." + string(c.thing) + ".events.x")
		m.Data = fmt.Append(nil, n, " ")
		m.Reply = nc.NewInbox()
		sub, err := nc.SubscribeSync(m.Reply)
		if err == nil {
			err = nc.PublishMsg(m)
		}
		if err != nil {
			c.t.Error(err)
			return
		}
		open.Go(func() {
			m, err := sub.NextMsg(patience)
			if err == nil {
				_, err = streams.PubAck(m)
			}
			if err != nil {
				c.t.Error(err)
			}
		})
		if n%20 == 19 {
			open.Wait()
		}
	}
	open.Wait()
}

// consume takes the lanes over again and again until everything is settled.
func (c *chaos) consume() {
	deadline := time.Now().Add(2 * patience)
	for !c.done() {
		if time.Now().After(deadline) {
			c.mu.Lock()
			c.t.Errorf("%s: %d of %d settled, %d handed out", c.thing, len(c.settled), c.count, c.first)
			c.mu.Unlock()
			return
		}
		c.run(c.r.spool.takeOver(c.thing))
	}
}

// run has lanes for a while, and ends with them in one of several ways.
func (c *chaos) run(lanes *TakenLanes) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- lanes.Run(ctx) }()
	var open []bridge.Delivery
	last := uint64(0)
	for range c.rand.IntN(120) {
		d, ok := soon(lanes.feeds[mapping.Events], 300*time.Millisecond)
		if !ok {
			break
		}
		if d.Sequence <= last {
			c.t.Errorf("%s: %d comes behind %d", c.thing, d.Sequence, last)
		}
		last = d.Sequence
		c.came(d)
		open = append(open, d)
		for len(open) > 8 || len(open) > 0 && c.rand.IntN(3) > 0 {
			c.settle(open[0])
			open = open[1:]
		}
	}
	how := c.rand.IntN(5)
	if how == 0 { // taken over while they run
		c.r.spool.takeOver(c.thing)
	}
	cancel()
	for _, d := range open { // settled late, or never
		if how == 1 {
			break
		}
		c.settle(d)
	}
	<-ended
	if how == 2 || how == 3 {
		if err := lanes.Flush(testContext(c.t)); err != nil {
			c.t.Error(err)
		}
	}
	if how == 3 || how == 4 {
		if err := lanes.Remove(testContext(c.t)); err != nil {
			c.t.Error(err)
		}
	}
}

func number(d bridge.Delivery) (n int) {
	_, _ = fmt.Sscan(string(d.Payload), &n)
	return n
}

func (c *chaos) came(d bridge.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := number(d)
	if n > c.first {
		c.t.Errorf("%s: %d comes before %d", c.thing, n, c.first)
	}
	c.first = max(c.first, n+1)
}

func (c *chaos) settle(d bridge.Delivery) {
	c.mu.Lock()
	c.settled[number(d)] = true
	c.mu.Unlock()
	d.Settle()
}

func (c *chaos) done() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.settled) == c.count
}
