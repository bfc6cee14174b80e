//go:build !windows

package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/cluster"
	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local/ownership"
	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// traffic is what programs and the cloud do meanwhile: each round an event of every Thing, and a command for one.
type traffic struct {
	p        *bridges
	rounds   int
	commands []string
	mu       sync.Mutex
	calls    map[string]int // by execution
}

func (x *traffic) start() (stop func()) {
	x.calls = map[string]int{}
	sub, err := x.p.nc.Subscribe("fleets.cmd.*.run", func(m *nats.Msg) {
		x.mu.Lock()
		x.calls[m.Header.Get("Fleets-Execution")]++
		x.mu.Unlock()
		_ = m.Respond(nil)
	})
	if err != nil {
		x.p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(x.p.ctx)
	var work sync.WaitGroup
	work.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond) // it is the faults that count, not the load
		defer tick.Stop()
		for ctx.Err() == nil {
			x.round()
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	return func() {
		cancel()
		work.Wait()
		x.arrives()
		_ = sub.Unsubscribe()
	}
}

func (x *traffic) round() {
	x.rounds++
	for _, name := range x.p.things {
		if _, err := x.p.js.PublishAsync("fleets.up."+name+".events.n", fmt.Appendf(nil, `{"eventType":"n","severity":"info","data":{"n":%d}}`, x.rounds)); err != nil {
			x.p.t.Error(err)
		}
	}
	if x.rounds%4 == 0 {
		id, err := x.p.sim.SendCommand(fleetsim.Command{Thing: x.p.things[x.rounds/4%len(x.p.things)], Action: "run", TTL: 2 * patience})
		if err != nil {
			x.p.t.Error(err)
		}
		x.commands = append(x.commands, id)
	}
	select {
	case <-x.p.js.PublishAsyncComplete():
	case <-x.p.ctx.Done():
	}
}

// arrives waits until all has arrived, in order, and each command was called once and has one response.
func (x *traffic) arrives() {
	t, again := x.p.t, 0
	t.Helper()
	for _, name := range x.p.things {
		seen, next := map[string]bool{}, 1
		x.p.until(fmt.Sprintf("all %d events of %s", x.rounds, name), func() bool {
			return slices.ContainsFunc(x.p.sim.Events(name), func(e fleetsim.Event) bool { return string(e.Data) == fmt.Sprintf(`{"n":%d}`, x.rounds) })
		})
		for _, e := range x.p.sim.Events(name) {
			switch s := string(e.Data); {
			case seen[s]:
				again++
			case s != fmt.Sprintf(`{"n":%d}`, next):
				t.Fatalf("%s: event %d arrives for the first time as %s", name, next, s)
			default:
				seen[s] = true
				next++
			}
		}
		if len(seen) != x.rounds {
			t.Errorf("%s: %d of %d events", name, len(seen), x.rounds)
		}
	}
	for _, id := range x.commands {
		c, err := x.p.sim.WaitCommand(x.p.ctx, id)
		if err != nil || c.Status != fleetsim.Succeeded {
			t.Errorf("a command: %+v, %v", c, err)
		}
		for _, r := range c.Responses[min(1, len(c.Responses)):] { // the same may come twice
			if string(r) != string(c.Responses[0]) {
				t.Errorf("command %s has another response, %s", id, r)
			}
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, n := range x.calls {
		if n != 1 {
			t.Errorf("command %s was called %d times", id, n)
		}
	}
	if len(x.calls) != len(x.commands) {
		t.Errorf("%d commands, %d called", len(x.commands), len(x.calls))
	}
	t.Logf("%d events, %d of them twice; %d commands", x.rounds*len(x.p.things), again, len(x.commands))
}

// share waits until bridges have so many shards, in any order, and each Thing one session.
func (p *bridges) share(what string, want []int, gws ...*gateway.Gateway) {
	p.t.Helper()
	p.until(what, func() bool {
		var got []int
		connected := map[mapping.Thing]int{}
		for _, gw := range gws {
			s, _ := gw.Standing()
			if len(gw.Ready(p.ctx)) > 0 {
				return false
			}
			if got = append(got, s.Shards); s.Shards == 0 {
				continue
			}
			for _, v := range gw.Things() {
				if v.State.Connected {
					connected[v.Name]++
				}
			}
		}
		slices.Sort(got)
		for _, n := range connected {
			if n != 1 {
				return false
			}
		}
		return slices.Equal(got, want) && len(connected) == len(p.things)
	})
}

// Three bridges share eight shards. One loses NATS, and not the broker: the others take its Things over, and it does not
// connect. It comes back, and has its part again. It loses the broker, and not NATS: it gives its Things to the others, and
// gets its part again when it reaches the broker. Another is drained, and the third stops. Meanwhile nothing is lost or out
// of order, no command runs twice, and any bridge takes requests for all Things.
func TestClusterShares(t *testing.T) {
	// alone, and with slow beats: a bridge whose beats do not come in time gives way
	var things []string
	for i := range 12 {
		things = append(things, fmt.Sprintf("pump-%02d", i))
	}
	p := newBridges(t, 8, things...)
	p.beat, p.grace = 700*time.Millisecond, 3*time.Second
	link, err := fleetsim.NewLink(p.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = link.Close() })
	broker, err := fleetsim.NewLink(p.sim.BrokerURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() })
	p.broker = "mqtt://" + broker.Addr()
	a, stopA, _ := p.run("a", "nats://"+link.Addr(), upset...)
	p.broker = ""
	p.share("one bridge has all", []int{8}, a)
	x := &traffic{p: p}
	stop := x.start()
	b, stopB, _ := p.run("b", p.url, upset...)
	c, stopC, _ := p.run("c", p.url, upset...)
	p.share("three bridges share", []int{2, 3, 3}, a, b, c)
	p.ask()

	was := broker.Accepted()
	link.Cut()
	p.share("two bridges share", []int{4, 4}, b, c)
	p.ask()
	if n := broker.Accepted() - was; n != 0 {
		t.Errorf("the bridge that was taken over connects %d times", n)
	}
	link.Restore()
	p.share("three bridges share again", []int{2, 3, 3}, a, b, c)

	broker.Cut()
	p.share("two bridges share what one can't connect", []int{4, 4}, b, c)
	p.until("it says why it is not ready", func() bool {
		r := a.Ready(p.ctx)
		return len(r) == 1 && r[0].Part == gateway.PartCluster && strings.Contains(r[0].Reason, "does not reach the broker")
	})
	p.ask()
	broker.Restore()
	p.share("three bridges share once more", []int{2, 3, 3}, a, b, c)

	s, err := mapping.NewSubjects("fleets")
	if err != nil {
		t.Fatal(err)
	}
	if err := ownership.Drain(p.ctx, p.nc, s, "b", true); err != nil {
		t.Fatal(err)
	}
	p.share("one is drained", []int{0, 4, 4}, a, b, c)
	p.ask()
	if err := ownership.Drain(p.ctx, p.nc, s, "b", false); err != nil {
		t.Fatal(err)
	}
	p.share("it is back", []int{2, 3, 3}, a, b, c)
	if err := stopC(); err != nil {
		t.Errorf("c stopped with: %v", err)
	}
	p.share("one has stopped", []int{4, 4}, a, b)
	p.ask()
	stop()
	for _, stop := range []func() error{stopA, stopB} {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}

// asks is what a request is answered: an error, or nothing.
func (p *bridges) asks(name string) string {
	m, err := p.nc.Request("fleets.req."+name+".jobs.get", nil, 5*time.Second)
	if err != nil {
		return err.Error()
	}
	return m.Header.Get("Nats-Service-Error")
}

// ask asks the cloud for each Thing, and also for one that there is not.
func (p *bridges) ask() {
	p.t.Helper()
	for _, name := range p.things {
		p.until("a request for "+name+" is answered", func() bool { return p.asks(name) == "" })
	}
	p.until("a request for nobody is refused", func() bool { return strings.Contains(p.asks("nobody"), "not configured") })
}

// epochs are those of the markers in the stream of what the cloud sent, by shard.
func (p *bridges) epochs() (out []uint64) {
	p.t.Helper()
	down, err := p.js.Stream(p.ctx, "FLEETS_DOWN")
	if err != nil {
		p.t.Fatal(err)
	}
	for shard := range p.shards {
		var m cluster.Marker
		raw, err := down.GetLastMsgForSubject(p.ctx, fmt.Sprint("_fleets.epoch.", shard))
		if err == nil {
			err = json.Unmarshal(raw.Data, &m)
		}
		if err != nil {
			p.t.Fatal(err)
		}
		out = append(out, m.Epoch)
	}
	return out
}

// The ownership log is removed, or emptied, while bridges run: they end and say so. Those that are started then claim the Things
// with epochs above all that the streams have, and nothing is lost or out of order. While no bridge runs it may be removed, too.
func TestOwnershipLogRemoved(t *testing.T) {
	// alone, as TestClusterShares
	p := newBridges(t, 4, "pump-00", "pump-01", "pump-02", "pump-03", "pump-04", "pump-05")
	p.beat = 700 * time.Millisecond
	remove := func() {
		t.Helper()
		if err := p.js.DeleteKeyValue(p.ctx, "FLEETS_CLUSTER"); err != nil {
			t.Fatal(err)
		}
	}
	empty := func() {
		t.Helper()
		log, err := p.js.Stream(p.ctx, "KV_FLEETS_CLUSTER")
		if err == nil {
			err = log.Purge(p.ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	a, stopA, _ := p.run("a", p.url, upset...)
	p.share("one bridge has all", []int{4}, a)
	x := &traffic{p: p}
	stop := x.start()
	if err := stopA(); err != nil {
		t.Fatal(err)
	}
	before := p.epochs()
	remove()
	for _, gone := range []func(){remove, empty, nil} {
		a, stopA, endedA := p.run("a", p.url, append(upset, "could not be told")...)
		b, stopB, endedB := p.run("b", p.url, append(upset, "could not be told")...)
		p.share("two bridges share", []int{2, 2}, a, b)
		if now := p.epochs(); slices.Min(now) <= slices.Max(before) {
			t.Errorf("epochs %v are not above %v", now, before)
		}
		p.ask()
		before = p.epochs()
		if gone != nil {
			gone()
			for _, ended := range []chan error{endedA, endedB} {
				select {
				case err := <-ended:
					if err == nil || !strings.Contains(err.Error(), "FLEETS_CLUSTER") {
						t.Errorf("a bridge ends with %v", err)
					}
					ended <- err // stop waits for it
				case <-p.ctx.Done():
					t.Fatal("a bridge goes on without its log")
				}
			}
			continue
		}
		stop()
		for _, stop := range []func() error{stopA, stopB} {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	}
}
