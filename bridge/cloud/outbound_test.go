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

// model plays a broker that does what it likes with an outbound, and checks what must always hold.
type model struct {
	t       *testing.T
	r       *rand.Rand
	o       *outbound
	now     time.Time
	present bool
	limit   int

	next     int           // number of the next message
	wire     []*entry      // in flight on this connection
	taken    [2][]int      // first arrivals at the broker, by class
	seen     map[int]bool  // has arrived
	finished map[int]error // completed
	made     map[*entry]int
}

func FuzzOutbound(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		m := &model{
			t: t, r: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(0, 0),
			seen: map[int]bool{}, finished: map[int]error{}, made: map[*entry]int{},
		}
		m.o = newOutbound(rules{window: 16, ackTimeout: time.Minute, delay: func(int) time.Duration { return time.Second }})
		for range 400 {
			m.act()
		}
		m.finish()
	})
}

func (m *model) act() {
	m.now = m.now.Add(time.Duration(m.r.IntN(300)) * time.Millisecond)
	switch n := m.r.IntN(20); {
	case n < 6:
		m.add()
	case n < 12:
		m.send()
	case n < 18:
		m.answer(m.r.IntN(6) == 0)
	case n == 18 && m.o.up:
		m.complete(m.o.lose(nil))
		m.wire = nil
	case !m.o.up:
		m.connect(m.r.IntN(2) == 0)
	}
}

func (m *model) connect(present bool) {
	m.limit = 1 + m.r.IntN(5)
	m.o.connect(limits{receiveMaximum: m.limit}, present)
	m.o.begin()
	m.present = present
}

func (m *model) add() {
	if m.o.waiting() > 20 {
		return
	}
	e := &entry{message: event("x"), topic: "t"}
	if m.r.IntN(3) == 0 {
		e.message = response("x")
	}
	e.volatile = m.o.up && m.r.IntN(8) == 0
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
		if s.send.dup && !m.present {
			m.t.Fatal("DUP without a session")
		}
		if s.send.dup && !m.seen[m.made[s.send]] {
			m.t.Fatal("DUP on what was never sent")
		}
		c := s.send.lane.class
		if n := m.made[s.send]; !m.seen[n] {
			m.seen[n] = true
			m.taken[c] = append(m.taken[c], n)
		}
	}
}

// answer acknowledges the oldest in flight.
func (m *model) answer(refuse bool) {
	if len(m.wire) == 0 {
		return
	}
	e := m.wire[0]
	m.wire = m.wire[1:]
	code := byte(0)
	if refuse {
		code = 0x97
	}
	done, _ := m.o.acked(e.id, code, m.now)
	if (done != nil) == refuse {
		m.t.Fatalf("code %#x completed: %v", code, done != nil)
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
		if c.err != nil && !(c.entry.volatile && errors.Is(c.err, bridge.ErrNotConnected)) {
			m.t.Fatalf("message %d: %v", n, c.err)
		}
		m.finished[n] = c.err
	}
}

// finish lets everything through and checks that nothing is lost, and that first arrivals are in order.
func (m *model) finish() {
	if !m.o.up {
		m.connect(true)
	}
	for range 1000 {
		m.now = m.now.Add(2 * time.Second)
		m.send()
		m.answer(false)
	}
	if n := m.o.waiting(); n != 0 || len(m.finished) != m.next || len(m.o.ids) != 0 || m.o.flight.len != 0 {
		m.t.Fatalf("%d waiting, %d of %d finished, %d identifiers in use", n, len(m.finished), m.next, len(m.o.ids))
	}
	for c, order := range m.taken {
		if !slices.IsSorted(order) {
			m.t.Fatalf("%v: first arrivals out of order: %v", mapping.Class(c), order)
		}
	}
}

func TestPaceAllowsSmallBursts(t *testing.T) {
	o := newOutbound(rules{window: 1000, ackTimeout: time.Minute, interval: time.Millisecond})
	o.connect(limits{receiveMaximum: 1000}, false)
	o.begin()
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

func TestPauses(t *testing.T) {
	p := pauses{rules: Backoff{Min: 100, Max: 1000, Takeover: 30_000}} // nanoseconds
	between := func(what string, d, least, most time.Duration) {
		t.Helper()
		if d < least || d > most {
			t.Errorf("%s: %d, want %d to %d", what, d, least, most)
		}
	}
	for _, most := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		between("refused", p.refused(), most/2, most)
	}
	for _, most := range []time.Duration{100, 100, 100, 200, 400, 800, 1000} {
		between("lost at once", p.lost(time.Second, false), most/2, most)
	}
	between("lost a little later", p.lost(6*time.Second, false), 400, 800)
	between("lost at once", p.lost(time.Second, false), 500, 1000)
	between("lost after long", p.lost(time.Minute, false), 50, 100)
	for _, least := range []time.Duration{30_000, 60_000, 120_000, 240_000, 480_000, 600_000, 600_000} {
		between("taken over", p.lost(40_000, true), least, least*3/2)
	}
	between("long after", p.lost(10_000_000, true), 30_000, 45_000)
}
