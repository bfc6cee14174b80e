package cluster

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"
)

// sim is bridges, a log that they write and follow, and a broker, in a time of its own. One seed is one history.
type sim struct {
	rng    *rand.Rand
	now    Time
	events events
	count  int
	judge  judge
	broken mutant

	quorum   bool
	regained Time // when the log took something again
	log      []Entry
	keys     []string
	last     map[string]uint64
	nodes    []*node
	shards   []*place
	planned  bool // nothing fails in this history
	moved    int  // shards that were stopped
}

const (
	beat    = time.Second
	timeout = 2 * time.Second
	grace   = 10 * beat
)

type event struct {
	at  Time
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func (s *sim) after(d Time, do func()) {
	s.count++
	heap.Push(&s.events, event{s.now + d, s.count, do})
}

// run has everything happen that is due until a time.
func (s *sim) run(until Time) {
	for len(s.events) > 0 && s.events[0].at <= until && s.judge.verdict == "" {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		e.do()
	}
	s.now = until
}

func (s *sim) between(a, b Time) Time { return a + Time(s.rng.Int64N(int64(b-a)+1)) }

// latency is short, and at times it is not.
func (s *sim) latency() Time {
	switch x := s.rng.IntN(200); {
	case s.planned || x > 2:
		return s.between(time.Millisecond, 20*time.Millisecond)
	case x > 0:
		return s.between(20*time.Millisecond, time.Second)
	}
	return s.between(time.Second, 10*time.Second)
}

func (s *sim) quick() Time { return s.between(time.Millisecond, 20*time.Millisecond) }

// node is a bridge's process.
type node struct {
	s         *sim
	id        string
	life      int // counts processes
	up        bool
	cut       bool // from NATS
	far       Time // from the broker, until then
	paused    Time // until then
	wellSince Time
	beaten    Time // when the log took its last beat
	pace      float64
	b         *Bridge
	pos       int // in the log
	following bool
	owners    map[int]*owner
}

// at has the process do something later, if it lives; while it is paused, when it goes on.
func (n *node) at(d Time, do func()) {
	life := n.life
	var due func()
	due = func() {
		switch {
		case life != n.life || !n.up:
		case n.paused > n.s.now:
			n.s.after(n.paused-n.s.now, due)
		default:
			do()
		}
	}
	n.s.after(d, due)
}

// call asks NATS. The request or its answer may get lost, and then answer gets nil after a while.
func (n *node) call(d Time, serve func() any, answer func(any)) {
	lost := func() { n.at(timeout, func() { answer(nil) }) }
	if n.cut {
		lost()
		return
	}
	n.s.after(d, func() {
		if !n.s.quorum {
			lost()
			return
		}
		r := serve()
		if n.cut {
			lost()
			return
		}
		n.at(n.s.quick(), func() { answer(r) })
	})
}

// start begins a process: it reads the newest of each record, and beats.
func (n *node) start() {
	n.life++
	n.up, n.wellSince, n.paused, n.owners, n.following = true, n.s.now, 0, map[int]*owner{}, true
	n.b = New(Config{ID: n.id, Incarnation: fmt.Sprint(n.id, "/", n.life), Shards: len(n.s.shards), Beat: beat, Grace: grace})
	n.s.broken.rules(&n.b.rules)
	n.join()
}

func (n *node) join() {
	n.at(n.s.quick(), func() {
		if n.cut || !n.s.quorum {
			n.at(time.Second, n.join)
			return
		}
		for i, e := range n.s.log {
			if n.s.last[n.s.keys[i]] == e.Seq {
				n.step(Seen{e})
			}
		}
		n.pos, n.following = len(n.s.log), false
		n.step(Told{})
		n.tick()
		n.follow()
	})
}

func (n *node) tick() {
	things, connected := 0, 0
	for _, o := range n.owners {
		if things++; o.connected {
			connected++
		}
	}
	n.b.Note(Member{Things: things, Connected: connected, Broker: connected > 0 || things == 0 && n.far <= n.s.now})
	n.step(Tick{})
	n.at(Time(float64(beat)*n.pace), n.tick)
}

// follow delivers the log in order.
func (n *node) follow() {
	if n.following || n.cut || n.pos == len(n.s.log) {
		return
	}
	n.following = true
	n.at(n.s.between(0, 5*time.Millisecond), func() {
		n.following = false
		if n.cut {
			return
		}
		e := n.s.log[n.pos]
		n.pos++
		n.step(Seen{e})
		n.follow()
	})
}

func (n *node) step(in any) {
	life := n.life
	for _, out := range n.b.Step(n.s.now, in) {
		if n.life != life || !n.up {
			return
		}
		switch out := out.(type) {
		case Write:
			d := n.s.quick()
			if out.Owner != nil {
				d = n.s.latency()
			}
			n.call(d, func() any { n.s.write(n, out); return true }, func(any) {})
		case Start:
			n.own(out.Shard, out.Epoch)
		case Stop:
			if o := n.owners[out.Shard]; o != nil && o.epoch == out.Epoch {
				n.s.judge.stops(n.s.now)
				n.s.moved++
				o.stop(out.Lost)
			}
		case Exit:
			n.crash(2 * beat)
		}
	}
}

// write is the log: it takes what expects the right sequence.
func (s *sim) write(n *node, w Write) {
	key, e := "member."+n.id, Entry{Seq: uint64(len(s.log) + 1), ID: n.id, Member: w.Member}
	if w.Owner != nil {
		key, e = fmt.Sprint("shard.", w.Shard), Entry{Seq: e.Seq, Shard: w.Shard, Owner: w.Owner}
	}
	if s.last[key] != w.Expect && !(s.broken.noCAS && w.Owner != nil) {
		return
	}
	switch {
	case w.Owner == nil:
	case w.Owner.Owner == "":
		s.shards[w.Shard].owner = ""
	default:
		s.claimed(w)
	}
	s.append(key, e)
}

func (s *sim) append(key string, e Entry) {
	s.log, s.keys = append(s.log, e), append(s.keys, key)
	s.last[key] = e.Seq
	for _, n := range s.nodes {
		if e.Member != nil && e.ID == n.id {
			n.beaten = s.now
		}
		if n.up {
			n.follow()
		}
	}
}

// claimed tells the judge from whom a shard is taken.
func (s *sim) claimed(w Write) {
	p := s.shards[w.Shard]
	if was := s.nodeOf(p.owner); was != nil && p.owner == fmt.Sprint(was.id, "/", was.life) && was.up && was.paused <= s.now && !was.cut {
		s.judge.taken(s.now-was.wellSince, p.owner, w.Owner.Incarnation)
	}
	p.owner = w.Owner.Incarnation
}

func (s *sim) nodeOf(incarnation string) *node {
	for _, n := range s.nodes {
		if incarnation == fmt.Sprint(n.id, "/", n.life) {
			return n
		}
	}
	return nil
}

// The faults.

func (n *node) crash(back Time) {
	if !n.up {
		return
	}
	n.up = false
	for _, o := range n.owners {
		o.hangUp()
		o.over = true
	}
	if back > 0 {
		n.s.after(back, n.start)
	}
}

func (n *node) pause(d Time) {
	n.paused = max(n.paused, n.s.now+d)
	n.s.after(d, func() { n.wellSince = n.s.now })
}

// farFrom has a process lose the broker.
func (n *node) farFrom(d Time) {
	n.far = n.s.now + d
	for _, o := range n.owners {
		if c := o.conn; c != nil && c.alive {
			c.alive = false
			o.later(n.s.quick(), o.dropped)
		}
	}
}

func (n *node) cutOff(d Time) {
	n.cut = true
	n.s.after(d, func() { n.cut, n.wellSince = false, n.s.now; n.follow() })
}

// loseQuorum has the log take nothing for a while. Who had no beat in it between the trouble before and this one has been
// well only since the end.
func (s *sim) loseQuorum(d Time) {
	s.quorum = false
	s.after(d, func() {
		for _, n := range s.nodes {
			if n.beaten < max(n.wellSince, s.regained) {
				n.wellSince = s.now
			}
		}
		s.quorum, s.regained = true, s.now
	})
}

func (s *sim) drain(n *node, removed bool) {
	s.append("drain."+n.id, Entry{Seq: uint64(len(s.log) + 1), ID: n.id, Drain: &Drain{}, Removed: removed})
}

// leave ends a process in order.
func (n *node) leave(back Time) {
	n.at(0, func() {
		n.step(Leave{})
		var wait func()
		wait = func() {
			if n.b.Released() {
				n.crash(back)
			} else {
				n.at(50*time.Millisecond, wait)
			}
		}
		wait()
	})
}
