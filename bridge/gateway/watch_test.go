//go:build !windows

package gateway_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/sightings"
	"fleetbridge/fleetsim"
)

// tailed follows a site's tail. The channel has a line for each record: outcome, direction, channel, id and code.
func tailed(s *site, f sightings.Filter) (lines <-chan string, ended <-chan error) {
	s.t.Helper()
	out, end, begun := make(chan string, 1000), make(chan error, 1), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(cancel)
	go func() {
		end <- sightings.Follow(ctx, s.cfg.NATS.Embedded.StoreDir, f, func(l sightings.Line) error {
			switch {
			case l.Hello != "":
				close(begun)
			case l.Bye != "":
				out <- "bye"
			case l.Record != nil:
				out <- strings.Join(strings.Fields(fmt.Sprintln(l.Outcome, l.Direction, l.Thing, l.Channel, l.ID, l.Code)), " ")
			}
			return nil
		})
	}()
	select {
	case <-begun:
	case err := <-end:
		s.t.Fatal(err)
	case <-s.context().Done():
		s.t.Fatal("the tail does not begin")
	}
	return out, end
}

// awaitAll waits for lines in any order.
func (s *site) awaitAll(lines <-chan string, want ...string) {
	s.t.Helper()
	ctx := s.context()
	for len(want) > 0 {
		select {
		case l := <-lines:
			if i := slices.Index(want, l); i >= 0 {
				want = slices.Delete(want, i, i+1)
			}
		case <-ctx.Done():
			s.t.Fatalf("not seen: %q", want)
		}
	}
}

// Each flow is seen with what became of it.
func TestTail(t *testing.T) {
	t.Parallel()
	s := open(t, expect("disconnected", "connection lost"), edit(func(c *gateway.Config) { c.Commands.HandlerWait = 50 * time.Millisecond }))
	lines, _ := tailed(s, sightings.Filter{})
	_, err := s.nc.Subscribe("fleets.cmd.pump-07.turn", func(m *nats.Msg) { _ = m.Respond([]byte(`{"status":"SUCCEEDED"}`)) })
	if err == nil {
		err = s.nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.publish("fleets.up.pump-07.events.hot", `{"eventType":"hot","severity":"info"}`)
	s.publish("fleets.up.pump-07.events.hot", `{"eventType":"hot"}`)
	s.publish("fleets.up.pump-07.shadow.updat", `{}`)
	s.request("fleets.req.pump-07.shadow.get", "")
	s.request("fleets.req.pump-07.jobs.x.get", "{}")
	s.request("fleets.req.pump-07.events.hot", "x")
	served, unserved := s.command("turn"), s.command("dance")
	s.awaitAll(lines,
		"delivered up pump-07 event hot", "dead up pump-07 event hot schema", "dead up pump-07 subject",
		"answered up pump-07 shadow.get", "answered up pump-07 job.get x 502", "answered up pump-07 event hot 400",
		"called down pump-07 command.request "+served, "replied up pump-07 command.response "+served, "delivered up pump-07 command.response "+served,
		"delivered down pump-07 command.request "+unserved, "decided up pump-07 command.response "+unserved+" REJECTED")
	s.link.Cut()
	s.awaitAll(lines, "disconnected pump-07")
	s.link.Restore()
	s.awaitAll(lines, "connected pump-07")
}

// command sends one with this action.
func (s *site) command(action string) (id string) {
	s.t.Helper()
	id, err := s.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: action, TTL: 30 * time.Second})
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// A tail ends when the bridge stops, which does not wait for it; the next run of the bridge is found in the same place.
func TestTailEnds(t *testing.T) {
	t.Parallel()
	s := open(t)
	lines, ended := tailed(s, sightings.Filter{Thing: "pump-*", Outcome: "delivered"})
	s.restart()
	s.awaitAll(lines, "bye")
	<-ended
	lines, _ = tailed(s, sightings.Filter{Thing: "pump-*", Outcome: "delivered"})
	s.publish("fleets.up.pump-07.events.hot", `{"eventType":"hot","severity":"info"}`)
	s.awaitAll(lines, "delivered up pump-07 event hot")
}

func externalNATS(t *testing.T) *server.Server {
	t.Helper()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		t.Fatal("the NATS server does not start")
	}
	return ns
}

// Nobody but the bridge's own user can open the socket, with any NATS server, and NATS knows nothing of who looks: no
// connection, subscription or consumer more.
func TestTailIsNoSubscriber(t *testing.T) {
	t.Parallel()
	ns := externalNATS(t)
	s := open(t, edit(func(c *gateway.Config) { c.NATS.URL = gateway.NATSURL(ns.ClientURL()) }))
	counts := func() string {
		info, err := ns.Jsz(&server.JSzOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d connections, %d subscriptions, %d consumers", ns.NumClients(), ns.NumSubscriptions(), info.Consumers)
	}
	event := func() { s.publish("fleets.up.pump-07.events.hot", `{"eventType":"hot","severity":"info"}`) }
	event() // whatever the first message needs is there
	s.arrives("$emqx/things/pump-07/events/hot", "")
	before := counts()
	lines, _ := tailed(s, sightings.Filter{})
	event()
	s.awaitAll(lines, "delivered up pump-07 event hot")
	if after := counts(); after != before {
		t.Errorf("with a tail there are %s, without %s", after, before)
	}
	dir := sightings.Dir(s.cfg.NATS.Embedded.StoreDir)
	sockets := 0
	for _, path := range []string{dir, filepath.Join(dir, "tail.sock")} {
		info, err := os.Lstat(path)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
		if info.Mode().Type() == fs.ModeSocket {
			sockets++
		}
	}
	if sockets != 1 {
		t.Error("there is no socket")
	}
}

// Where there can be no socket the bridge says so, and works.
func TestNoPlaceForTheSocket(t *testing.T) {
	t.Parallel()
	ns := externalNATS(t)
	dir := t.TempDir()
	writeFile(t, sightings.Dir(dir), nil) // a file in the place of its directory
	s := open(t, edit(func(c *gateway.Config) {
		c.NATS.URL, c.NATS.Embedded.StoreDir = gateway.NATSURL(ns.ClientURL()), dir
	}))
	s.publish("fleets.up.pump-07.events.hot", `{"eventType":"hot","severity":"info"}`)
	s.arrives("$emqx/things/pump-07/events/hot", "")
}
