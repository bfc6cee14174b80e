package cloud

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// model plays a broker with an outbound, and checks what must always hold. It refuses whole kinds for a while, as a
// mistyped rule does, and for ever what is poison, by a code, by hanging up, or by never acknowledging it; now and
// then it cuts the connection whatever is in flight.
type model struct {
	t       *testing.T
	r       *rand.Rand
	o       *outbound
	now     time.Time
	present bool
	limit   int

	next     int      // number of the next message
	wire     []*entry // in flight on this connection
	arrived  [laneCount][]int
	jumped   map[int]bool  // was tried before one over which a connection ended
	seen     map[int]bool  // was sent
	has      map[int]bool  // the broker has it
	finished map[int]error // completed
	made     map[*entry]int
	poison   map[int]poison
	slip     [laneCount]bool
}

// poison is what the broker does about one message.
type poison uint8

const (
	good poison = iota
	refusedAlways
	killing
	accused
)

func FuzzOutbound(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		m := &model{
			t: t, r: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(0, 0), jumped: map[int]bool{},
			seen: map[int]bool{}, has: map[int]bool{}, finished: map[int]error{}, made: map[*entry]int{}, poison: map[int]poison{},
		}
		m.o = newOutbound(rules{window: 16, ackTimeout: time.Minute, delay: func(int) time.Duration { return time.Second }})
		for range 600 {
			m.act()
		}
		m.finish()
	})
}

func (m *model) act() {
	m.now = m.now.Add(time.Duration(m.r.IntN(300)) * time.Millisecond)
	switch n := m.r.IntN(200); {
	case n < 60:
		m.add()
	case n < 120:
		m.send()
	case n < 180:
		m.answer()
	case n < 185:
		// A broker that changes its mind within a round, or between a message that ends connections and the one that is
		// tried after it, brings the order to nought, or deceives.
		i := m.r.IntN(laneCount)
		if l := &m.o.lanes[i]; i != laneQuestions && l.flying == 0 && l.trial.probe == nil && l.trial.left == 0 && m.o.lanes[laneQuestions].flying == 0 {
			m.slip[i] = !m.slip[i]
		}
	case n < 186 && m.o.up:
		m.end(loss{how: how(m.r.IntN(2)), cause: errors.New("cut"), at: m.now})
	case !m.o.up:
		m.connect(m.r.IntN(2) == 0)
	}
}

func (m *model) end(e loss) {
	m.complete(m.o.lose(e))
	m.wire = nil
}

func (m *model) connect(present bool) {
	m.limit = 1 + m.r.IntN(20)
	m.o.connect(limits{receiveMaximum: m.limit}, present)
	m.o.begin(m.now)
	m.present = present
}

func (m *model) add() {
	if m.o.waiting() > 30 {
		return
	}
	messages := []bridge.Message{event("x"), event("x"), report("x"), response("x"), update("x")}
	e := &entry{message: messages[m.r.IntN(len(messages))], topic: "t"}
	e.volatile = m.o.up && m.r.IntN(8) == 0
	if !e.volatile && m.r.IntN(20) == 0 {
		m.poison[m.next] = poison(1 + m.r.IntN(3))
	}
	m.made[e] = m.next
	m.next++
	m.o.add(e)
}

func (m *model) send() {
	for {
		s := m.o.advance(m.now)
		if s.send == nil {
			return
		}
		for _, other := range m.wire {
			if other.id == s.send.id {
				m.t.Fatalf("identifier %d twice in flight", s.send.id)
			}
		}
		m.wire = append(m.wire, s.send)
		if len(m.wire) > m.limit {
			m.t.Fatalf("%d in flight, Receive Maximum is %d", len(m.wire), m.limit)
		}
		n := m.made[s.send]
		if s.send.dup && !m.present {
			m.t.Fatal("DUP without a session")
		}
		if s.send.dup && !m.seen[n] {
			m.t.Fatal("DUP on what was never sent")
		}
		m.seen[n] = true
		for e := s.send.lane.head; e != s.send; e = e.lane.after(e) {
			m.jumped[n] = m.jumped[n] || e.endsConnections()
		}
	}
}

// answer does with the oldest in flight what the broker does.
func (m *model) answer() {
	if len(m.wire) == 0 {
		return
	}
	e := m.wire[0]
	n := m.made[e]
	m.wire = m.wire[1:]
	code := byte(0)
	switch p := m.poison[n]; {
	case p == killing:
		m.end(loss{how: closed, cause: errors.New("EOF"), at: m.now})
		return
	case p == accused:
		m.end(loss{how: accusing, cause: errors.New("DISCONNECT"), code: 0x87, at: m.now})
		return
	case p == refusedAlways:
		code = 0x83
	case m.slip[laneOfKind(e.message.Address.Route().Kind)]:
		code = 0x87
	}
	done := m.o.acked(e.id, answer{code: code}, m.now)
	if done == nil && code == 0 {
		m.t.Fatalf("message %d is not completed", n)
	}
	if code == 0 && !m.has[n] {
		m.has[n] = true
		if !m.jumped[n] {
			m.arrived[e.lane.index] = append(m.arrived[e.lane.index], n)
		}
	}
	if done != nil {
		m.complete([]completion{*done})
	}
}

func (m *model) complete(cs []completion) {
	for _, c := range cs {
		n := m.made[c.entry]
		if _, again := m.finished[n]; again {
			m.t.Fatalf("message %d was completed twice", n)
		}
		if c.err != nil && !c.entry.volatile && m.poison[n] == good {
			m.t.Fatalf("message %d is good: %v", n, c.err)
		}
		m.finished[n] = c.err
	}
}

// inRound reports whether a kind has yet to send what it began.
func (m *model) inRound() bool {
	return slices.ContainsFunc(m.o.lanes[:], func(l lane) bool { return l.trial.left > 0 && l.next != nil })
}

// finish lets everything through but the poison, with a good message of each kind behind, and checks that nothing is lost,
// and that what arrived first is in order.
func (m *model) finish() {
	for len(m.wire) > 0 || m.inRound() {
		if !m.o.up {
			m.connect(true)
		}
		m.now = m.now.Add(100 * time.Millisecond)
		m.send()
		m.answer()
	}
	m.slip = [laneCount]bool{}
	for _, last := range []bridge.Message{event("x"), report("x"), response("x"), update("x")} {
		e := &entry{message: last, topic: "t"}
		m.made[e] = m.next
		m.next++
		m.o.add(e)
	}
	for range 20_000 {
		if !m.o.up {
			m.connect(true)
		}
		m.now = m.now.Add(100 * time.Millisecond)
		m.send()
		m.answer()
		if m.o.waiting() == 0 {
			break
		}
	}
	left := 0
	for i := range m.o.lanes {
		for e := m.o.lanes[i].head; e != nil; e = m.o.lanes[i].after(e) {
			if m.poison[m.made[e]] == good {
				m.t.Errorf("message %d of %s is left, tries %d, next %v, trial %+v", m.made[e], laneNames[i], e.tries, m.o.lanes[i].next == e, m.o.lanes[i].trial)
			}
			left++
		}
	}
	if len(m.finished)+left != m.next || m.o.flight.len > left {
		m.t.Fatalf("%d left, %d of %d finished, %d in flight", left, len(m.finished), m.next, m.o.flight.len)
	}
	for i, order := range m.arrived {
		if !slices.IsSorted(order) {
			m.t.Fatalf("%s: first arrivals out of order: %v", laneNames[i], order)
		}
	}
}

func report(payload string) bridge.Message {
	return bridge.Message{Address: mapping.Address{Thing: thing, Channel: mapping.ShadowReport}, Payload: []byte(payload)}
}

func update(payload string) bridge.Message {
	return bridge.Message{Address: mapping.Address{Thing: thing, Channel: mapping.JobUpdate, ID: "j"}, Payload: []byte(payload)}
}

func TestPaceAllowsSmallBursts(t *testing.T) {
	o := newOutbound(rules{window: 1000, ackTimeout: time.Minute, interval: time.Millisecond})
	o.connect(limits{receiveMaximum: 1000}, false)
	o.begin(time.Unix(1, 0))
	for range 100 {
		o.add(&entry{message: event("x")})
	}
	now, n := time.Unix(1, 0), 0
	for o.advance(now).send != nil {
		n++
	}
	same(t, "at once", n, 11)
	s := o.advance(now)
	same(t, "the next", s.wake.Sub(now), time.Millisecond)
}

func TestIdentifiersWrapAround(t *testing.T) {
	o := newOutbound(rules{})
	o.lastID = 1<<16 - 2
	same(t, "last", o.reserve(&entry{}), 1<<16-1)
	same(t, "first", o.reserve(&entry{}), 1)
	o.lastID = 1<<16 - 2
	same(t, "used ones are skipped", o.reserve(&entry{}), 2)
	same(t, "a SUBSCRIBE's", o.reserveLast(), 1<<16-2)
	for range 1<<16 - 5 {
		if o.reserve(&entry{}) == 0 {
			t.Fatal("too few identifiers")
		}
	}
	same(t, "none is left", o.reserve(&entry{}), 0)
	same(t, "none is left for a SUBSCRIBE", o.reserveLast(), 0)
	o.release(1<<16 - 2)
	same(t, "freed", o.reserve(&entry{}), 1<<16-2)
}
