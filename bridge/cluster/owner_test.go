package cluster

import (
	"maps"
	"time"
)

// place is what there is of a shard outside the bridges.
type place struct {
	owner string // by the log, an incarnation
	// The stream that owners write, and what a replica that lags may still say.
	marker    *Marker
	markerSeq uint64
	seq       uint64
	state     state
	history   []version
	// The stream of programs: messages 1 to next, of which those up to floor are removed.
	next, floor int
	// The broker: the connection that has the session, and requests that it has no PUBACK for.
	conn     *conn
	requests []string
	// Handlers: replies by execution, and the one response.
	replies map[string]bool
	done    map[string]string
}

type version struct {
	seq   uint64
	state state
}

// state is what owners write: the merged reports, and executions.
type state struct {
	merged     [2]uint64
	executions map[string]execution
}

type execution struct{ open, called bool }

func (s state) with(id string, e execution) state {
	s.executions = maps.Clone(s.executions)
	if s.executions == nil {
		s.executions = map[string]execution{}
	}
	s.executions[id] = e
	return s
}

// conn is a connection to the broker.
type conn struct {
	o       *owner
	alive   bool
	arrives Time // of the last packet: they arrive in order
	answers Time // of the last PUBACK
}

// owner is what a bridge does for a shard that it owns.
type owner struct {
	n         *node
	p         int
	epoch     uint64
	at        *place
	fence     uint64 // the marker's sequence
	state     state
	conn      *conn
	connected bool
	away      Time // since when there is no connection
	handed    int
	acked     int
	settled   int
	writes    []func(done func())
	writing   bool
	began     map[string]bool
	stopping  bool
	over      bool
}

func (n *node) own(p int, epoch uint64) {
	o := &owner{n: n, p: p, epoch: epoch, at: n.s.shards[p], began: map[string]bool{}, away: n.s.now}
	n.owners[p] = o
	if n.s.broken.loadFirst {
		o.load(func() { o.raise(o.begin) })
		return
	}
	o.raise(func() { o.load(o.begin) })
}

func (o *owner) later(d Time, do func()) {
	o.n.at(d, func() {
		if !o.over {
			do()
		}
	})
}

func (o *owner) call(serve func() any, answer func(any)) {
	o.n.call(o.n.s.latency(), serve, func(r any) {
		if !o.over {
			answer(r)
		}
	})
}

// put writes the marker, if the one that is there allows it.
func (p *place) put(epoch uint64) bool {
	if !Raise(epoch, p.marker) {
		return false
	}
	p.seq++
	p.marker, p.markerSeq = &Marker{Epoch: epoch}, p.seq
	p.keep()
	return true
}

func (p *place) keep() {
	p.history = append(p.history, version{p.seq, p.state})
	if len(p.history) > 8 {
		p.history = p.history[1:]
	}
}

func (o *owner) raise(then func()) {
	o.call(func() any {
		if !o.at.put(o.epoch) {
			return uint64(0)
		}
		return o.at.markerSeq
	}, func(r any) {
		switch r {
		case nil:
			o.raise(then)
		case uint64(0):
			o.fenced()
		default:
			o.fence = r.(uint64)
			then()
		}
	})
}

func (o *owner) fenced() { o.n.step(Fenced{o.p, o.epoch}) }

// load asks any replica, until one has proved that it has the marker.
func (o *owner) load(then func()) {
	o.call(func() any {
		h := o.at.history
		if len(h) == 0 {
			return version{}
		}
		return h[len(h)-1-o.n.s.rng.IntN(min(len(h), 6))]
	}, func(r any) {
		v, ok := r.(version)
		if !ok || !Proves(v.seq, o.fence) && !o.n.s.broken.loadAny {
			o.later(10*time.Millisecond, func() { o.load(then) })
			return
		}
		o.state = v.state
		then()
	})
}

func (o *owner) begin() {
	o.call(func() any { return o.at.floor }, func(r any) {
		if r == nil {
			o.begin()
			return
		}
		o.handed = r.(int)
		o.acked, o.settled = o.handed, o.handed
		for id, e := range o.state.executions {
			if e.open {
				o.goOn(id, AfterTakeover(e.called))
			}
		}
		o.connect()
		o.pump()
	})
}

// connect waits until the ownership is verified since the last connection.
func (o *owner) connect() {
	if o.stopping {
		return
	}
	if !o.n.b.Verified(o.p, o.away) {
		o.n.step(Prove{})
		o.later(100*time.Millisecond, o.connect)
		return
	}
	c := &conn{o: o}
	o.conn = c
	o.n.s.after(o.n.s.quick(), func() {
		if o.conn != c { // it was given up meanwhile
			return
		}
		if o.n.far > o.n.s.now {
			o.conn, o.away = nil, o.n.s.now
			o.later(time.Second, o.connect)
			return
		}
		o.n.s.judge.connects(o.n.s, o)
		if was := o.at.conn; was != nil && was.alive {
			was.alive = false
			o.n.s.judge.kicks(o, was.o)
			was.o.later(o.n.s.quick(), was.o.dropped)
		}
		c.alive, o.at.conn = true, c
		o.later(o.n.s.quick(), func() { o.connected = o.conn == c && c.alive; o.requested() })
	})
}

func (o *owner) dropped() {
	o.connected, o.conn, o.away, o.handed = false, nil, o.n.s.now, o.acked
	o.connect()
}

func (o *owner) hangUp() {
	c := o.conn
	o.connected, o.conn = false, nil
	if c == nil {
		return
	}
	o.n.s.after(o.n.s.quick(), func() {
		if c.alive = false; o.at.conn == c {
			o.at.conn = nil
		}
	})
}

// send has a packet arrive at the broker, in order, if the connection still has the session then.
func (o *owner) send(arrive func()) {
	c := o.conn
	c.arrives = max(c.arrives, o.n.s.now+o.n.s.quick()) + 1
	o.n.s.after(c.arrives-o.n.s.now, func() {
		if c.alive {
			arrive()
		}
	})
}

// pump sends what programs have published, some at a time.
func (o *owner) pump() {
	for o.connected && !o.stopping && o.handed < o.at.next && o.handed < o.acked+3 {
		o.handed++
		k, c := o.handed, o.conn
		o.send(func() {
			o.n.s.judge.arrives(o.p, k)
			c.answers = max(c.answers, o.n.s.now+o.n.s.quick()) + 1
			o.later(c.answers-o.n.s.now, func() {
				if o.conn == c {
					o.acknowledged(k)
				}
			})
		})
	}
	o.later(50*time.Millisecond, o.pump)
}

// acknowledged settles a message once the state that it has changed is stored.
func (o *owner) acknowledged(k int) {
	o.acked = k
	o.state.merged[k/64] |= 1 << (k % 64)
	merged := o.state.merged
	o.write(func(s state) state { s.merged = merged; return s }, func() {
		o.settled = k
		o.call(func() any { o.at.floor = max(o.at.floor, k); return true }, func(any) {})
	})
}

// write stores a change in the stream, one after the other, until it is stored or refused for good.
func (o *owner) write(change func(state) state, then func()) {
	o.writes = append(o.writes, func(done func()) { o.try(change, func() { done(); then() }) })
	o.flush()
}

func (o *owner) flush() {
	if o.writing || len(o.writes) == 0 || o.over {
		return
	}
	o.writing = true
	o.writes[0](func() { o.writing, o.writes = false, o.writes[1:]; o.flush() })
}

type refused struct {
	marker *Marker
	seq    uint64
}

func (o *owner) try(change func(state) state, then func()) {
	fence := o.fence
	o.call(func() any {
		if (o.at.marker == nil || o.at.markerSeq != fence) && !o.n.s.broken.noFence {
			return refused{o.at.marker, o.at.markerSeq}
		}
		o.n.s.judge.writes(o.p, o.epoch)
		o.at.seq++
		o.at.state = change(o.at.state)
		o.at.keep()
		return true
	}, func(r any) {
		no, is := r.(refused)
		switch {
		case r == nil:
			o.try(change, then)
		case !is:
			then()
		default:
			o.refused(no, o.n.s.now, func() { o.try(change, then) })
		}
	})
}

func (o *owner) refused(r refused, at Time, again func()) {
	v := Refusal(o.epoch, r.marker)
	if o.n.s.broken.raises && v == Superseded {
		v = Again
	}
	switch v {
	case Again:
		o.fence = r.seq
		again()
	case Superseded:
		o.fenced()
	case PutBack:
		if !o.n.b.Verified(o.p, at) {
			o.n.step(Prove{})
			o.later(100*time.Millisecond, func() { o.refused(r, at, again) })
			return
		}
		o.raise(again)
	}
}

// stop finishes what is under way, unless the shard is lost.
func (o *owner) stop(lost bool) {
	finish := func() {
		o.over = true
		delete(o.n.owners, o.p)
		o.hangUp()
		o.n.step(Stopped{o.p, o.epoch})
	}
	if lost || o.n.s.broken.releaseFirst {
		finish()
		return
	}
	o.stopping = true
	end := o.n.s.now + 4*time.Second
	var wait func()
	wait = func() {
		if o.over {
			return
		}
		if (o.settled == o.handed && len(o.writes) == 0) || o.n.s.now > end {
			// What was purged is known: requests are answered in order.
			o.call(func() any { return true }, func(any) { finish() })
			return
		}
		o.later(20*time.Millisecond, wait)
	}
	wait()
}
