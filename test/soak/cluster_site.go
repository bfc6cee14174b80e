//go:build !windows

package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"

	"fleetbridge/fleetsim"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// clusterSite is three NATS servers, three bridges that share Things, and a real broker, each a process, with a link
// between each bridge and each server, and between each bridge and the broker. Programs reach the servers directly.
type clusterSite struct {
	*procSite
	servers []*natsProcess
	members []*member
	nc      *nats.Conn
	js      jetstream.JetStream
	judge   *clusterJudge
	clocks  bool // the clocks of servers jump, so the judge can't tell when it was that a shard had an owner
	planned bool // nothing may come twice
}

// member is a bridge of the cluster.
type member struct {
	*process
	id     string
	nats   []*fleetsim.Link // to each server
	broker *fleetsim.Link
	clock  string
}

const clusterShards = 8

// clusterBinaries are the programs of a site; empty: those that are built without anything special.
type clusterBinaries struct{ bridge, server string }

// openCluster starts everything, with load, and returns when all is well.
func (w *World) openCluster(b clusterBinaries) *clusterSite {
	w.Helper()
	var things []string
	for i := range 12 {
		things = append(things, fmt.Sprintf("pump-%02d", i+1))
	}
	if b.server == "" {
		var err error
		if b.server, err = builtNATS(); err != nil {
			w.Fatal(err)
		}
	}
	s := &clusterSite{
		procSite: newProcCloud(w, procOptions{setup: processSetup{things: things}, real: true, fast: true, patience: clusterPatience}),
		servers:  newNATSCluster(w, b.server),
		judge:    &clusterJudge{owners: map[int][]tenancy{}, markers: map[string]uint64{}, newest: map[int]uint64{}},
	}
	s.kinds, s.ttl = append(s.kinds, mapping.Shadow), 40*time.Second
	var urls []string
	for _, n := range s.servers {
		urls = append(urls, "nats://"+n.client)
		s.setClock(n.clock, 0)
		n.start(w)
	}
	for _, n := range s.servers {
		n.healthy(s.ctx, w)
	}
	for _, id := range []string{"gw-a", "gw-b", "gw-c"} {
		s.members = append(s.members, s.newMember(id, b.bridge))
	}
	s.bridge = &process{t: w.T, nats: strings.Join(urls, ",")} // where programs connect
	s.nc = s.connect("operator")
	var err error
	if s.js, err = jetstream.New(s.nc); err != nil {
		w.Fatal(err)
	}
	for _, m := range s.members {
		m.launch()
	}
	w.Cleanup(func() {
		s.endLoad()
		if w.Failed() {
			for _, m := range s.members {
				w.Logf("the log of %s:\n%s", m.id, m.tail())
			}
		}
	})
	s.balanced()
	watching, over := context.WithCancel(context.Background())
	s.judge.watch(watching, s.procSite)
	w.Cleanup(over) // before it is waited for
	s.tap()
	s.begin(100 * time.Millisecond)
	s.flows(time.Now())
	s.judge.begin()
	return s
}

// newMember makes a bridge and its links; it does not run yet.
func (s *clusterSite) newMember(id, binary string, more ...string) *member {
	s.Helper()
	m := &member{id: id}
	link := func(to string) *fleetsim.Link {
		l, err := fleetsim.NewLink(to)
		if err != nil {
			s.Fatal(err)
		}
		s.Cleanup(func() { _ = l.Close() })
		return l
	}
	var urls []string
	for _, n := range s.servers {
		l := link(n.client)
		m.nats, urls = append(m.nats, l), append(urls, "nats://"+l.Addr())
	}
	wire, err := NewWire(s.sim.BrokerURL(), nil)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(wire.Close)
	wire.Set(func(p Packet) Verdict {
		if p.Type == fleetsim.CONNECT {
			if c, err := packets.ReadPacket(bytes.NewReader(p.Raw)); err == nil {
				s.judge.connected(id, c.Content.(*packets.Connect).ClientID)
			}
		}
		return Verdict{}
	})
	m.broker = link(wire.URL())
	lines := append([]string{fmt.Sprintf("cluster: {id: %s, shards: %d}", id, clusterShards)}, more...)
	m.process = newProcess(s.T, processSetup{broker: m.broker.URL(), things: s.things, lines: lines, nats: strings.Join(urls, ","), binary: binary})
	m.clock = m.config + ".clock"
	m.env = []string{clockVariable + "=" + m.clock}
	s.setClock(m.clock, 0)
	return m
}

// readiness is what /readyz says, also of a bridge that is not ready.
type readiness struct {
	Ready   bool `json:"ready"`
	Cluster struct {
		State  string `json:"state"`
		Shards int    `json:"shards"`
	} `json:"cluster"`
	Problems json.RawMessage `json:"problems"`
}

func (m *member) readiness() (r readiness) {
	asks := http.Client{Timeout: 2 * time.Second}
	response, err := asks.Get(m.http + "/readyz")
	if err != nil {
		return r
	}
	defer response.Body.Close()
	_ = json.NewDecoder(response.Body).Decode(&r)
	return r
}

// balanced waits until each bridge has its part, and is ready.
func (s *clusterSite) balanced() { s.shares(2, 3, 3) }

func (s *clusterSite) shares(want ...int) {
	s.Helper()
	for {
		var got []int
		var why []string
		for _, m := range s.members {
			select {
			case <-m.ended:
				s.Fatalf("%s has ended by itself:\n%s", m.id, m.tail())
			default:
			}
			r := m.readiness()
			if got = append(got, r.Cluster.Shards); !r.Ready {
				got = append(got, -1)
			}
			why = append(why, fmt.Sprintf("%s %d %.300s", m.id, r.Cluster.Shards, r.Problems))
		}
		slices.Sort(got)
		if slices.Equal(got, want) {
			return
		}
		if flow.Sleep(s.ctx, 100*time.Millisecond) != nil {
			s.Fatalf("the shards are never shared as %v: %s", want, strings.Join(why, "; "))
		}
	}
}

// flows waits until, in every lane upwards, something has arrived that is newer than all that was accepted up to now, and
// notes how long that took since the fault.
func (s *clusterSite) flows(since time.Time) time.Duration {
	s.Helper()
	want := map[string]uint64{}
	s.mu.Lock()
	for name, n := range s.last {
		want[name] = n
	}
	s.mu.Unlock()
	s.untilEachLane("nothing flows", func(name string) bool { return s.newest[name] > want[name] })
	return time.Since(since)
}

// busy is a bridge that has shards, at random.
func (s *clusterSite) busy() *member { return s.members[s.Random.IntN(len(s.members))] }

// leader is the NATS server that leads a stream, and its index.
func (s *clusterSite) leader(stream string) *natsProcess {
	s.Helper()
	for {
		ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
		x, err := s.js.Stream(ctx, stream)
		cancel()
		if err == nil {
			if c := x.CachedInfo().Cluster; c != nil {
				for _, n := range s.servers {
					if n.name == c.Leader {
						return n
					}
				}
			}
		}
		if flow.Sleep(s.ctx, 200*time.Millisecond) != nil {
			s.Fatalf("stream %s has no leader: %v", stream, err)
		}
	}
}

// led are the streams that a server leads.
func (s *clusterSite) led(n *natsProcess) (out []string) {
	s.Helper()
	for _, stream := range append([]string{"KV_FLEETS_CLUSTER", "FLEETS_UP_CONTROL", "FLEETS_UP_TELEMETRY", "FLEETS_REPLIES"}, fencedStreams...) {
		if s.leader(stream) == n {
			out = append(out, stream)
		}
	}
	return out
}

// again restarts a server that has ended, and waits for it.
func (s *clusterSite) again(n *natsProcess) {
	n.start(s.World)
	n.healthy(s.ctx, s.World)
}

// verdict ends the load and judges.
func (s *clusterSite) verdict() {
	s.Helper()
	s.balanced()
	s.endLoad()
	s.arrivedDown()
	if err := s.books.Settled(s.ctx); err != nil {
		s.Errorf("%v", err)
	}
	s.checkCommands(fleetsim.Succeeded, fleetsim.TimedOut)
	if s.procSite.again > 0 {
		s.Errorf("%d commands were called twice", s.procSite.again)
	}
	for _, thing := range s.things {
		s.merged(thing)
	}
	s.judge.caughtUp(s)
	connects, claims := s.judge.count()
	s.judge.mu.Lock()
	zombies, fenced := slices.Clone(s.judge.zombies), s.judge.fenced
	s.judge.mu.Unlock()
	for _, z := range zombies {
		s.Errorf("stored of an old owner: %s", z)
	}
	if fenced == 0 {
		s.Error("no fenced write was seen")
	}
	var strays []string
	unknown := 0
	if !s.clocks {
		strays, unknown = s.judge.strays(clusterShards)
	}
	for _, c := range strays {
		s.Errorf("a CONNECT without ownership: %s", c)
	}
	if s.planned {
		s.mu.Lock()
		for lane, n := range s.repeated {
			s.Errorf("%s: %d came twice though every move was planned", lane, n)
		}
		s.mu.Unlock()
	}
	s.Logf("publishes refused %d; fenced writes %d, of zombies %d; CONNECTs %d, of zombies %d, not judged %d; claims %d; %+v",
		s.refused, fenced, len(zombies), connects, len(strays), unknown, claims, s.books.Report().Total)
}

// merged compares the cloud's state of a Thing with what was reported: of each key the newest value.
func (s *clusterSite) merged(thing string) {
	s.Helper()
	s.mu.Lock()
	last := s.last[upLane(thing, mapping.Shadow)]
	s.mu.Unlock()
	shadow, err := s.sim.Shadow(thing)
	if err != nil {
		s.Error(err)
		return
	}
	for n := max(last, reportKeys) - reportKeys + 1; n <= last; n++ {
		key := fmt.Sprint("k", n%reportKeys)
		if got := gjson.GetBytes(shadow.Reported, key).Uint(); got < n {
			s.Errorf("%s: the merged state has %s %d, reported was %d", thing, key, got, n)
		}
	}
}

// reshape gives a bridge that does not run another number of shards.
func (m *member) reshape(s *clusterSite, shards int) {
	s.Helper()
	text, err := os.ReadFile(m.config)
	if err == nil {
		err = os.WriteFile(m.config, []byte(strings.Replace(string(text), fmt.Sprint("shards: ", clusterShards), fmt.Sprint("shards: ", shards), 1)), 0o600)
	}
	if err != nil {
		s.Fatal(err)
	}
}

// signal sends one to the process.
func (m *member) signal(sig syscall.Signal) { _ = m.cmd.Process.Signal(sig) }
