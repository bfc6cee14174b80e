//go:build !windows

package gateway_test

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

// bridges are some bridges with the same Things on one NATS server.
type bridges struct {
	t      *testing.T
	things []string
	shards int
	beat   time.Duration // 0: a short one
	grace  time.Duration // for who does not reach the broker; 0: for ever
	broker string        // where the next bridge connects; empty: to the cloud's own
	sim    *fleetsim.Sim
	url    string // of the NATS server
	nc     *nats.Conn
	js     jetstream.JetStream
	ctx    context.Context
}

func newBridges(t *testing.T, shards int, things ...string) *bridges {
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	t.Cleanup(cancel)
	p := &bridges{t: t, things: things, shards: shards, url: externalNATS(t).ClientURL(), ctx: ctx}
	p.sim = fleetsim.Start(t, fleetsim.Options{Things: things})
	var err error
	if p.nc, err = nats.Connect(p.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.nc.Close)
	if p.js, err = jetstream.New(p.nc); err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs a bridge, until stop is called.
func (p *bridges) run(id, url string, expected ...string) (gw *gateway.Gateway, stop func() error, ended chan error) {
	p.t.Helper()
	cfg := gateway.Default()
	cfg.MQTT.Server = []string{cmp.Or(p.broker, p.sim.BrokerURL())}
	for _, name := range p.things {
		cfg.Things = append(cfg.Things, gateway.Thing{Name: name, ClientID: name})
	}
	cfg.NATS.URL = gateway.NATSURL(url)
	cfg.NATS.Embedded.StoreDir = p.t.TempDir()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Cluster = gateway.Cluster{ID: id, Shards: p.shards, Beat: cmp.Or(p.beat, 300*time.Millisecond), BrokerGrace: p.grace}
	var may []fleetsim.Expectation
	for _, e := range expected {
		may = append(may, fleetsim.Expect(e))
	}
	gw, err := gateway.New(cfg, gateway.Build{Version: "0.0.0"}, fleetsim.Log(p.t, may...))
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended = make(chan error, 1)
	go func() { ended <- gw.Run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return fmt.Errorf("bridge %s did not stop within %v", id, patience)
		}
	}
	p.t.Cleanup(func() { _ = stop() })
	return gw, stop, ended
}

// upset is what a bridge may log that is cut off, or on a machine that stands still for a beat or four.
var upset = []string{"NATS", "session taken over", "connection lost", "cannot", "fails for now", "another bridge owns", "ownership log",
	"does not beat", "cloud does not answer", "did not stop", "waiting for", "does not work", "may be sent again", "does not reach the broker", "has other settings", "could not be sent"}

// until asks again and again.
func (p *bridges) until(what string, is func() bool) {
	p.t.Helper()
	for pause := shortPause; !is(); pause = longer(pause) {
		select {
		case <-time.After(pause):
		case <-p.ctx.Done():
			p.t.Fatalf("never: %s", what)
		}
	}
}

// stands waits until a bridge has a place in the cluster, and has nothing against being ready.
func (p *bridges) stands(gw *gateway.Gateway, state string) {
	p.t.Helper()
	p.until(state, func() bool {
		is, in := gw.Standing()
		return in && is.State == state && len(gw.Ready(p.ctx)) == 0
	})
}

func (p *bridges) publish(from, to int) {
	p.t.Helper()
	for n := from; n <= to; n++ {
		if _, err := p.js.Publish(p.ctx, "fleets.up.pump-07.events.n", fmt.Appendf(nil, `{"eventType":"n","severity":"info","data":{"n":%d}}`, n)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// arrived waits until the cloud has events 1 to n, and each for the first time in order.
func (p *bridges) arrived(n int) {
	p.t.Helper()
	p.until(fmt.Sprint(n, " events have arrived"), func() bool {
		next := 1
		for _, e := range p.sim.Events("pump-07") {
			if strings.Contains(string(e.Data), fmt.Sprintf(`{"n":%d}`, next)) {
				next++
			}
		}
		return next > n
	})
	seen := map[string]bool{}
	for _, e := range p.sim.Events("pump-07") {
		if s := string(e.Data); !seen[s] {
			if seen[s] = true; s != fmt.Sprintf(`{"n":%d}`, len(seen)) {
				p.t.Fatalf("event %d arrives for the first time as %s", len(seen), s)
			}
		}
	}
}

// One bridge has the Things. When it loses NATS, though not the broker, another takes over: nothing is lost, no
// command runs twice, and the first one does not come back to the broker, nor store anything, when it has NATS again. A
// stop hands over at once.
func TestClusterTakesOver(t *testing.T) {
	// alone: a bridge whose beats do not come in time gives way
	p := newBridges(t, 1, "pump-07")
	link, err := fleetsim.NewLink(p.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = link.Close() })
	a, stopA, _ := p.run("a", "nats://"+link.Addr(), upset...)
	p.stands(a, "active")
	b, stopB, _ := p.run("b", p.url, upset...)
	p.stands(b, "standby")

	calls, held := make(chan *nats.Msg, 100), make(chan *nats.Msg, 1)
	sub, err := p.nc.Subscribe("fleets.cmd.pump-07.*", func(m *nats.Msg) {
		calls <- m
		if strings.HasSuffix(m.Subject, ".slow") {
			held <- m
			return
		}
		_ = m.Respond(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	command := func(action string) string {
		t.Helper()
		id, err := p.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: action, TTL: 2 * patience})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	p.publish(1, 10)
	p.arrived(10)
	if x, err := p.sim.WaitCommand(p.ctx, command("quick")); err != nil || x.Status != "SUCCEEDED" {
		t.Fatalf("a command: %v, %v", x, err)
	}
	slow := command("slow")
	var call *nats.Msg
	select {
	case call = <-held:
	case <-p.ctx.Done():
		t.Fatal("the slow command was not called")
	}

	link.Cut()                                // a is off NATS, and keeps its session
	if err := call.Respond(nil); err != nil { // while nobody listens, most likely
		t.Fatal(err)
	}
	p.publish(11, 20)
	p.stands(b, "active")
	p.publish(21, 30)
	p.arrived(30)
	if x, err := p.sim.WaitCommand(p.ctx, slow); err != nil || x.Status != "SUCCEEDED" || len(x.Responses) != 1 {
		t.Errorf("the command that was called before the takeover: %+v, %v", x, err)
	}

	link.Restore()
	p.stands(a, "standby")
	if _, err := p.sim.WaitCommand(p.ctx, command("quick")); err != nil {
		t.Error(err)
	}
	if s, _ := a.Standing(); s.State != "standby" || s.Active != "b" {
		t.Errorf("the bridge that was away is %s, and takes %q for the active one", s.State, s.Active)
	}
	p.stands(b, "active") // and has not been ended by the other one's CONNECT: its log may not say so

	if err := stopB(); err != nil {
		t.Errorf("b stopped with: %v", err)
	}
	p.stands(a, "active")
	p.publish(31, 40)
	p.arrived(40)
	if err := stopA(); err != nil {
		t.Errorf("a stopped with: %v", err)
	}
	if len(calls) != 3 {
		t.Errorf("3 commands, and %d calls", len(calls))
	}
}

// Two bridges with one id: the second one ends.
func TestClusterWithOneID(t *testing.T) {
	// alone: a bridge whose beats do not come in time gives way
	p := newBridges(t, 1, "pump-07")
	a, _, _ := p.run("same", p.url, "cloud does not answer")
	p.stands(a, "active")
	_, _, ended := p.run("same", p.url)
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "give each bridge an id of its own") {
			t.Errorf("the second ended with: %v", err)
		}
		ended <- err // for the clean-up
	case <-p.ctx.Done():
		t.Error("the second does not end")
	}
	p.stands(a, "active")
}
