package cluster

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"fleetbridge/internal/race"
)

var seedsFlag = flag.Int("seeds", 300, "how many histories TestModel runs; make model runs 10,000")

// Whatever happens to five bridges, to what is between them, and to the log, the promises hold.
func TestModel(t *testing.T) {
	t.Parallel()
	n, parts := uint64(race.Part(*seedsFlag)), uint64(runtime.GOMAXPROCS(0))
	for part := range parts {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			for seed := part; seed < n; seed += parts {
				if verdict := history(seed, mutant{}); verdict != "" {
					t.Fatalf("seed %d: %s", seed, verdict)
				}
			}
		})
	}
}

// mutant is a bridge in which one rule is broken.
type mutant struct {
	name         string
	dead         bool // by the wall clock
	unproved     bool // CONNECT as soon as the shard is started
	makesUp      bool // beats that were missed
	noCAS        bool
	noFence      bool
	raises       bool // its marker whatever is there
	loadAny      bool // from a replica that lags
	loadFirst    bool // before the marker is there
	notNoted     bool // calls
	releaseFirst bool
	stays        bool // with its shards, though it does not reach the broker
}

func (m mutant) rules(r *rules) {
	if m.dead {
		seen := map[*member]Time{}
		r.dead = func(_ *Bridge, x *member, now Time) bool {
			if _, known := seen[x]; !known {
				seen[x] = now
			}
			return now-seen[x] > deadAfter*beat
		}
	}
	if m.unproved {
		r.verified = func(b *Bridge, p int, _ Time) bool { return b.mine(p) }
	}
	if m.stays {
		r.another = func(*Bridge, Time) bool { return false }
	}
	if m.makesUp {
		r.ticks = func(missed uint64) uint64 { return max(missed, 1) }
	}
}

// Each rule is needed: without it some history breaks a promise.
func TestMutants(t *testing.T) {
	t.Parallel()
	for i, m := range []mutant{
		{name: "dead by the wall clock", dead: true},
		{name: "CONNECT without a proof", unproved: true},
		{name: "missed beats are made up for", makesUp: true},
		{name: "a claim without CAS", noCAS: true},
		{name: "writes without a fence", noFence: true},
		{name: "a refused write raises the marker again", raises: true},
		{name: "load from any replica", loadAny: true},
		{name: "load before fence", loadFirst: true},
		{name: "calls are not noted", notNoted: true},
		{name: "release before flush", releaseFirst: true},
		{name: "who does not reach the broker stays", stays: true},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			if i%race.Step() != 0 {
				t.Skip("with the race detector only some are tried")
			}
			for seed := range uint64(5000) {
				if verdict := history(seed, m); verdict != "" {
					t.Logf("seed %d: %s", seed, verdict)
					return
				}
			}
			t.Error("no history shows it")
		})
	}
}

// history is what happens with one seed: until the 60th beat things fail, then they are well, and in the end all
// promises are asked for. It returns the first that is broken.
func history(seed uint64, m mutant) string {
	s := &sim{rng: rand.New(rand.NewPCG(seed, 1)), judge: newJudge(), broken: m, quorum: true, last: map[string]uint64{}, planned: seed%5 == 0}
	for range 2 {
		s.shards = append(s.shards, &place{replies: map[string]bool{}, done: map[string]string{}})
	}
	for i := range 5 {
		n := &node{s: s, id: string(rune('a' + i)), pace: .95 + .1*s.rng.Float64()}
		s.nodes = append(s.nodes, n)
		s.after(s.between(0, 5*beat), n.start)
	}
	for p := range s.shards {
		s.publishes(p)
		s.commands(p)
	}
	for range 1 + s.rng.IntN(7) {
		s.after(s.between(8*beat, 60*beat), s.fault)
	}
	s.run(60 * beat)
	quiet := 125 * beat // longer than anybody is passed over
	s.run(quiet)
	if s.judge.verdict == "" {
		s.judge.ends(s)
	}
	s.run(quiet + 40*beat)
	if s.judge.verdict == "" && s.judge.lastStop > quiet+10*beat {
		s.judge.broken("a shard moves though no member comes or goes")
	}
	return s.judge.verdict
}

// fault is one of all that may go wrong.
func (s *sim) fault() {
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	if s.planned {
		switch s.rng.IntN(3) {
		case 0:
			s.drain(n, false)
			s.after(s.between(2*beat, 15*beat), func() { s.drain(n, true) })
		default:
			if n.up {
				n.leave(s.between(2*beat, 10*beat))
			}
		}
		return
	}
	if s.rng.IntN(2) == 0 { // rather of one that owns something
		if o := s.nodeOf(s.shards[s.rng.IntN(len(s.shards))].owner); o != nil {
			n = o
		}
	}
	if !n.up {
		return
	}
	switch s.rng.IntN(10) {
	case 0, 1:
		n.crash(s.between(beat/2, 15*beat))
	case 2, 3:
		n.pause(s.between(beat, 25*beat))
	case 4:
		n.cutOff(s.between(beat, 20*beat))
	case 5:
		s.loseQuorum(s.between(beat, 20*beat))
	case 6:
		n.leave(s.between(beat, 10*beat))
	case 7:
		p := s.shards[s.rng.IntN(len(s.shards))]
		p.marker = nil
	case 8: // one of them perhaps for ever
		d := s.between(beat, 60*beat)
		if n == s.nodes[0] && s.rng.IntN(2) == 0 {
			d = 1000 * beat
		}
		n.farFrom(d)
	case 9:
		d := s.between(beat, 40*beat)
		for _, n := range s.nodes {
			n.farFrom(max(d, n.far-s.now))
		}
	}
}

// Who alone does not reach the broker gives its shards away, and stays away until it does. When nobody reaches it, nothing
// moves, then nor afterwards.
func TestFarFromTheBroker(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		s := &sim{rng: rand.New(rand.NewPCG(seed, 2)), judge: newJudge(), quorum: true, last: map[string]uint64{}, planned: true}
		for range 6 {
			s.shards = append(s.shards, &place{replies: map[string]bool{}, done: map[string]string{}})
		}
		for i := range 3 {
			n := &node{s: s, id: string(rune('a' + i)), pace: 1}
			s.nodes = append(s.nodes, n)
			s.after(s.between(0, 5*beat), n.start)
		}
		s.run(30 * beat)
		moved := s.moved
		expect := func(what string, moves int, owned ...int) {
			t.Helper()
			for i, n := range s.nodes {
				if len(n.owners) != owned[i] || s.moved-moved != moves {
					t.Fatalf("seed %d: %s: %s has %d shards, want %v; %d moved, want %d", seed, what, n.id, len(n.owners), owned, s.moved-moved, moves)
				}
			}
		}
		for _, n := range s.nodes {
			n.farFrom(s.between(60*beat, 65*beat))
		}
		s.run(130 * beat)
		expect("nobody has reached it for a minute", 0, 2, 2, 2)
		s.nodes[0].farFrom(100 * beat)
		s.run(130*beat + grace - beat)
		expect("one does not reach it for a moment", 0, 2, 2, 2)
		s.run(130*beat + 3*grace)
		expect("one does not reach it", 2, 0, 3, 3)
		s.run(228 * beat)
		expect("one still does not reach it", 2, 0, 3, 3)
		s.run(260 * beat)
		expect("all reach it again", 4, 2, 2, 2)
	}
}

// A bridge to which the broker says no, and whose probes say yes, comes back less and less often.
func TestAwayAgain(t *testing.T) {
	t.Parallel()
	b := New(Config{ID: "a", Incarnation: "run", Shards: 1, Beat: beat, Grace: grace})
	b.members["b"] = &member{Member: Member{Broker: true}}
	var came []Time
	for now, was := Time(0), false; now < 2000*beat; now += beat {
		b.Note(Member{Things: 1, Broker: b.away})
		b.stay(now)
		if was && !b.away {
			came = append(came, now)
		}
		was = b.away
	}
	for i := 2; i < min(len(came), mostAway); i++ {
		if came[i]-came[i-1] <= came[i-1]-came[i-2] {
			t.Errorf("it comes back at %v", came)
		}
	}
	if len(came) < mostAway || len(came) > 8 {
		t.Errorf("it comes back at %v", came)
	}
}

// publishes has programs publish for a minute.
func (s *sim) publishes(p int) {
	s.after(s.between(100*time.Millisecond, 1800*time.Millisecond), func() {
		if s.now < 65*beat && s.shards[p].next < 120 {
			s.shards[p].next++
			s.publishes(p)
		}
	})
}

func (s *sim) commands(p int) {
	s.after(s.between(500*time.Millisecond, 12*time.Second), func() {
		if s.now > 65*beat {
			return
		}
		at := s.shards[p]
		at.requests = append(at.requests, fmt.Sprint(p, "/", s.now))
		if at.conn != nil && at.conn.alive {
			at.conn.o.later(s.quick(), at.conn.o.requested)
		}
		s.commands(p)
	})
}
