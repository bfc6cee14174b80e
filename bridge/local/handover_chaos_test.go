package local

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// chaos publishes for one Thing while its queue is stopped, replaced, removed and made again.
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

// chaosCount is how many messages each Thing has.
const chaosCount = 150

// TestHandoverChaos: every message that was accepted is handed out until it is settled, for the first time in the
// stream's order, and is forgotten then.
func TestHandoverChaos(t *testing.T) {
	r := newRigWith(t, ServerConfig{}, StoreConfig{Things: []mapping.Thing{"a", "b", "c"}, Window: pullBatch + 8})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var all sync.WaitGroup
	for n, thing := range []mapping.Thing{"a", "b", "c"} {
		c := &chaos{t: t, r: r, thing: thing, count: chaosCount, rand: rand.New(rand.NewPCG(seed, uint64(n))), settled: map[int]bool{}}
		nc := r.program()
		source := rand.New(rand.NewPCG(seed, uint64(n+100)))
		all.Go(func() { c.publish(nc, source) })
		all.Go(c.consume)
	}
	all.Wait()
	for _, thing := range []mapping.Thing{"a", "b", "c"} { // what was settled too late comes once more
		q, _ := r.run(thing, mapping.Telemetry)
		eventually(t, "all is forgotten", func() bool {
			for d, ok := soon(q, time.Millisecond); ok; d, ok = soon(q, time.Millisecond) {
				d.Settle()
			}
			return queuedOf(t, r, thing) == 0
		})
	}
	h := r.store.handovers[mapping.Telemetry]
	eventually(t, "all is settled", func() bool { return h.settledTo() == 3*chaosCount })
	if n := h.bytes.Load(); n != 0 {
		t.Errorf("%d bytes in memory", n)
	}
}

func (c *chaos) publish(nc *nats.Conn, source *rand.Rand) {
	subject := "fleets.up." + string(c.thing) + ".events.x"
	for n := range c.count {
		payload := fmt.Sprint(n, " ")
		if source.IntN(8) == 0 {
			payload += strings.Repeat("x", handoverBytes/6)
		}
		to, by := subject, nc
		if source.IntN(5) == 0 { // past the intake
			to, by = internal(subject), c.r.nc
		}
		m, err := by.Request(to, []byte(payload), answerTime)
		if err == nil {
			_, err = pubAck(m)
		}
		if err != nil {
			c.t.Error(err)
			return
		}
	}
}

// consume goes through queues until everything is settled.
func (c *chaos) consume() {
	deadline := time.Now().Add(40 * time.Second)
	for !c.done() {
		if time.Now().After(deadline) {
			c.mu.Lock()
			c.t.Errorf("%s: %d of %d settled, %d handed out", c.thing, len(c.settled), c.count, c.first)
			c.mu.Unlock()
			return
		}
		q, err := c.r.store.Queue(testContext(c.t), c.thing, mapping.Telemetry)
		if err != nil {
			c.t.Error(err)
			return
		}
		c.run(q)
	}
}

// run has one queue for a while, and ends with it in one of several ways.
func (c *chaos) run(q *Queue) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	var open []bridge.Delivery
	most := c.rand.IntN(120)
	for range most {
		d, ok := soon(q, 300*time.Millisecond)
		if !ok {
			break
		}
		c.came(d)
		open = append(open, d)
		for len(open) > 0 && c.rand.IntN(3) > 0 {
			c.settle(open[0])
			open = open[1:]
		}
	}
	how := c.rand.IntN(5)
	if how == 0 { // replaced while it runs
		if _, err := c.r.store.Queue(testContext(c.t), c.thing, mapping.Telemetry); err != nil {
			c.t.Error(err)
		}
	}
	cancel()
	for _, d := range open { // settled late, or never
		if how == 1 {
			break
		}
		c.settle(d)
	}
	if err := <-ended; err != nil && !errors.Is(err, ErrTakenOver) {
		c.t.Error(err)
	}
	if how == 2 || how == 3 {
		if err := q.Flush(testContext(c.t)); err != nil {
			c.t.Error(err)
		}
	}
	if how == 3 || how == 4 {
		if err := q.Remove(testContext(c.t)); err != nil {
			c.t.Error(err)
		}
	}
}

func number(d bridge.Delivery) (n int) {
	_, _ = fmt.Sscan(string(d.Payload[:min(8, len(d.Payload))]), &n)
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
