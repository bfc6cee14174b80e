//go:build !windows

package soak

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"fleetbridge/bridge/local/ownership"
	"fleetbridge/fleetsim"
)

// clusterPatience is how long a round of a cluster may take.
const clusterPatience = 9 * time.Minute

// clusterFault is one that a site of several bridges is hit by: what it does, until all is well again.
type clusterFault struct {
	name, what string
	do         func(*clusterSite)
	rounds     int  // how often in a long round; 0: four times
	planned    bool // nothing may come twice
	alone      bool // not among those at random
	outage     bool // programs can't publish meanwhile, so recovery counts from its end
}

func clusterFaults() []clusterFault {
	return []clusterFault{
		{name: "bridge killed", what: "a bridge is killed (SIGKILL), and started again", do: bridgeKilled, rounds: 8},
		{name: "bridge stands still", what: "a bridge is stopped (SIGSTOP) for 8 to 25 s, and goes on", do: bridgeStandsStill},
		{name: "NATS leader killed", what: "the NATS server that leads the ownership log, or `FLEETS_DOWN`, or a stream of messages up, is killed, and started again", do: leaderKilled, rounds: 6},
		{name: "NATS leader stands still", what: "the same server is stopped (SIGSTOP) for 20 s", do: leaderStandsStill},
		{name: "bridge cut from NATS", what: "a bridge's links to all NATS servers are cut, or carry nothing, or nothing one way, for 8 to 30 s", do: cutFromNATS, rounds: 6},
		{name: "bridge cut from the broker", what: "a bridge's link to the broker is cut for 60 s", do: cutFromBroker, rounds: 2},
		{name: "NATS without a quorum", what: "two NATS servers are killed, for 10 to 30 s", do: withoutQuorum, outage: true},
		{name: "bridges restarted in turn", what: "each bridge is stopped (SIGTERM), and started again", do: bridgesInTurn, rounds: 3, planned: true},
		{name: "drain and undrain", what: "a bridge gives its Things away, and gets some again", do: drainAndUndrain, planned: true},
		{name: "NATS servers restarted in turn", what: "each NATS server is stopped (SIGTERM), and started again", do: serversInTurn, rounds: 3},
		{name: "clocks jump", what: "the clock of a bridge or a NATS server jumps by up to a day, and back", do: clocksJump, alone: true, rounds: 12},
		{name: "another bridge with the same id", what: "a bridge is started with the id of one that runs; one with another number of shards; one with other settings", do: sameID, rounds: 2},
		{name: "lagging replica", what: "a NATS server that leads nothing of the log is stopped (SIGSTOP) while a bridge is killed", do: laggingReplica},
	}
}

// clusterScenarios are each fault by itself, and all at random.
func clusterScenarios() []Scenario {
	random := Scenario{Name: "cluster: all at random", Faults: "all of these in any order, but the clocks", Apart: true, Patience: clusterPatience, Run: clusterAtRandom}
	out := []Scenario{}
	for _, f := range clusterFaults() {
		out = append(out, Scenario{Name: "cluster: " + f.name, Faults: f.what, Apart: true, Patience: clusterPatience, Run: func(w *World) { clusterAgain(w, f) }})
	}
	return append(out, random)
}

// clusterAgain has one kind of fault some times.
func clusterAgain(w *World, f clusterFault) {
	binaries := clusterBinaries{}
	if f.name == "clocks jump" {
		var err error
		if binaries, err = builtWithClock(); err != nil {
			w.Fatal(err)
		}
	}
	s := w.openCluster(binaries)
	s.planned = f.planned
	for range w.Pick(1, max(f.rounds, 4)) {
		s.hit(f)
	}
	s.verdict()
}

// clusterAtRandom has one after the other, for minutes.
func clusterAtRandom(w *World) {
	s := w.openCluster(clusterBinaries{})
	var faults []clusterFault
	for _, f := range clusterFaults() {
		if !f.alone {
			faults = append(faults, f)
		}
	}
	for end := time.Now().Add(time.Duration(w.Pick(30, 240)) * time.Second); time.Now().Before(end); {
		s.hit(faults[w.Random.IntN(len(faults))])
	}
	s.verdict()
}

func (s *clusterSite) hit(f clusterFault) {
	s.balanced()
	s.nap(s.Between(500*time.Millisecond, 2*time.Second))
	began := time.Now()
	s.mu.Lock()
	s.silence = 0
	s.mu.Unlock()
	f.do(s)
	s.balanced()
	s.flows(time.Now())
	s.mu.Lock()
	silence, longest := s.silence, s.longest
	s.mu.Unlock()
	if !f.outage {
		s.World.Recovered(silence)
	}
	s.Logf("%s: %v, the longest silence of a lane %v, %s", f.name, time.Since(began).Round(100*time.Millisecond), silence.Round(100*time.Millisecond), longest)
}

// recovers waits until everything flows.
func (s *clusterSite) recovers(since time.Time) time.Duration {
	s.Helper()
	took := s.flows(since)
	s.Logf("flows after %v", took.Round(100*time.Millisecond))
	if took > 20*time.Second {
		for _, m := range s.members {
			warned := m.log(0, "WARN", "ERROR")
			s.Logf("that is long; what %s warned of: %v", m.id, warned[max(0, len(warned)-20):])
		}
	}
	return took
}

func bridgeKilled(s *clusterSite) {
	m := s.busy()
	began := time.Now()
	m.kill()
	s.Fault()
	s.recovers(began)
	m.launch()
}

func bridgeStandsStill(s *clusterSite) {
	m := s.busy()
	began := time.Now()
	m.signal(syscall.SIGSTOP)
	s.Fault()
	s.recovers(began)
	s.nap(s.Between(8*time.Second, 25*time.Second) - time.Since(began))
	m.signal(syscall.SIGCONT)
	s.flows(time.Now())
}

// someLeader is the server that leads one of the streams that matter.
func (s *clusterSite) someLeader() *natsProcess {
	streams := []string{"KV_FLEETS_CLUSTER", "FLEETS_DOWN", "FLEETS_UP_TELEMETRY"}
	return s.leader(streams[s.Random.IntN(len(streams))])
}

func leaderKilled(s *clusterSite) {
	n := s.someLeader()
	began := time.Now()
	n.kill()
	s.Fault()
	s.recovers(began)
	s.again(n)
}

func leaderStandsStill(s *clusterSite) {
	n := s.someLeader()
	began := time.Now()
	n.signal(syscall.SIGSTOP)
	s.Fault()
	s.recovers(began)
	s.nap(20*time.Second - time.Since(began))
	n.signal(syscall.SIGCONT)
	n.healthy(s.ctx, s.World)
}

func cutFromNATS(s *clusterSite) {
	m, how := s.busy(), s.Random.IntN(4)
	late := fleetsim.Shape{Delay: 25 * time.Second}
	for _, l := range m.nats {
		switch how {
		case 0:
			l.Cut()
		case 1:
			l.BlackHole(true)
		case 2:
			l.Shape(fleetsim.FromClient, late)
		case 3:
			l.Shape(fleetsim.FromBroker, late)
		}
	}
	began := time.Now()
	s.Fault()
	s.Logf("%s is cut from NATS: %s", m.id, []string{"refused", "nothing passes", "nothing passes to the servers", "nothing passes from the servers"}[how])
	s.recovers(began)
	s.nap(s.Between(8*time.Second, 30*time.Second) - time.Since(began))
	for _, l := range m.nats {
		l.Restore()
		l.BlackHole(false)
		l.Shape(fleetsim.FromClient, fleetsim.Shape{})
		l.Shape(fleetsim.FromBroker, fleetsim.Shape{})
	}
	s.flows(time.Now())
}

func cutFromBroker(s *clusterSite) {
	m := s.busy()
	m.broker.Cut()
	began := time.Now()
	s.Fault()
	s.recovers(began)
	s.nap(time.Minute - time.Since(began))
	m.broker.Restore()
	s.flows(time.Now())
}

func withoutQuorum(s *clusterSite) {
	connects, claims := s.judge.count()
	first := s.Random.IntN(3)
	gone := []*natsProcess{s.servers[first], s.servers[(first+1)%3]}
	for _, n := range gone {
		n.kill()
	}
	s.Fault()
	s.nap(s.Between(10*time.Second, 30*time.Second))
	during, _ := s.judge.count()
	for _, n := range gone {
		n.start(s.World)
	}
	s.World.Recovered(s.recovers(time.Now()))
	for _, n := range gone {
		n.healthy(s.ctx, s.World)
	}
	after, taken := s.judge.count()
	if during != connects {
		s.Errorf("without a quorum there were %d CONNECTs", during-connects)
	}
	s.Logf("without a quorum: CONNECTs %d, then %d; claims then %d", during-connects, after-during, taken-claims)
}

func bridgesInTurn(s *clusterSite) {
	for _, m := range s.members {
		began := time.Now()
		m.stop()
		s.Fault()
		s.recovers(began)
		m.launch()
		s.balanced()
	}
}

func drainAndUndrain(s *clusterSite) {
	m := s.busy()
	began := time.Now()
	if err := ownership.Drain(s.ctx, s.nc, subjects, m.id, true); err != nil {
		s.Fatal(err)
	}
	s.Fault()
	s.shares(0, 4, 4)
	s.recovers(began)
	if err := ownership.Drain(s.ctx, s.nc, subjects, m.id, false); err != nil {
		s.Fatal(err)
	}
}

func serversInTurn(s *clusterSite) {
	for _, n := range s.servers {
		began := time.Now()
		n.end(syscall.SIGTERM)
		s.Fault()
		s.recovers(began)
		s.again(n)
	}
}

func clocksJump(s *clusterSite) {
	s.clocks = true
	_, claims := s.judge.count()
	i := s.Random.IntN(6)
	file, who := "", ""
	if i < 3 {
		file, who = s.members[i].clock, s.members[i].id
	} else {
		file, who = s.servers[i-3].clock, s.servers[i-3].name
	}
	by := s.Between(-24*time.Hour, 24*time.Hour)
	if s.Random.IntN(2) == 0 {
		by = s.Between(-time.Minute, time.Minute)
	}
	s.setClock(file, by)
	began := time.Now()
	s.Fault()
	s.Logf("the clock of %s is wrong by %v", who, by.Round(time.Second))
	s.recovers(began)
	s.nap(s.Between(2*time.Second, 8*time.Second))
	s.setClock(file, 0)
	s.flows(time.Now())
	if _, now := s.judge.count(); now != claims {
		s.Errorf("%d shards were taken over because a clock has jumped", now-claims)
	}
}

func sameID(s *clusterSite) {
	_, claims := s.judge.count()
	for _, x := range []struct{ line, says string }{
		{"", "give each bridge an id of its own"},
		{"shards", "cluster.shards is"},
	} {
		other := s.newMember(s.busy().id, "")
		if x.line != "" {
			other = s.newMember("gw-x", "")
			other.reshape(s, clusterShards*2)
		}
		other.launch()
		s.Fault()
		select {
		case <-other.ended:
		case <-s.ctx.Done():
			s.Fatal("a bridge that can't be of the cluster does not end")
		}
		if code := other.cmd.ProcessState.ExitCode(); code == 0 || !strings.Contains(other.tail(), x.says) {
			s.Errorf("it ended with %d:\n%s", code, other.tail())
		}
	}
	if _, now := s.judge.count(); now != claims {
		s.Errorf("%d shards have moved", now-claims)
	}
	for _, m := range s.members { // their links, which are settings, differ
		if !strings.Contains(fmt.Sprint(m.log(0, "WARN")), "has other settings than this one") {
			s.Errorf("%s does not say that others have other settings", m.id)
		}
	}
	s.recovers(time.Now())
}

func laggingReplica(s *clusterSite) {
	leader := s.leader("KV_FLEETS_CLUSTER")
	n := s.servers[s.Random.IntN(3)]
	for n == leader {
		n = s.servers[s.Random.IntN(3)]
	}
	m := s.busy()
	s.Logf("%s leads %v", n.name, s.led(n))
	n.signal(syscall.SIGSTOP)
	s.nap(s.Between(0, 2*time.Second))
	began := time.Now()
	m.kill()
	s.Fault()
	s.recovers(began)
	n.signal(syscall.SIGCONT)
	n.healthy(s.ctx, s.World)
	m.launch()
}
