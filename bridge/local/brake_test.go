package local

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/mapping"
)

// flood writes the same messages again and again, as fast as they are taken, until n bytes have gone or the connection
// ends. Answers are read and forgotten.
func (c *rawClient) flood(n int, format string, args ...any) (ended chan struct{}) {
	ended = make(chan struct{})
	part := strings.Repeat(fmt.Sprintf(format, args...), 100)
	go func() {
		defer close(ended)
		for ; n > 0; n -= len(part) {
			if _, err := c.conn.Write([]byte(part)); err != nil {
				return
			}
		}
	}()
	go func() {
		buf := make([]byte, 64<<10)
		for {
			if _, err := c.in.Read(buf); err != nil {
				return
			}
		}
	}()
	return ended
}

// taken is how many bytes the server has had of a user's connections.
func (r *rig) taken(account string) (n int) {
	r.t.Helper()
	list, err := r.server.nats.Connz(&server.ConnzOptions{Username: true, Limit: maxConns})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, c := range list.Conns {
		if c.Account == account && c.Port != 0 {
			n += int(c.InBytes)
		}
	}
	return n
}

// TestBrake: while the bridge does not read, what a program floods stays in its own socket, whatever it is, and another
// one is served. When the bridge reads, it goes on.
func TestBrake(t *testing.T) {
	lines := strings.Repeat("X: y\r\n", 28)
	for what, line := range map[string]string{
		"plain":      "PUB fleets.up.a.events.x 2\r\n{}\r\n",
		"headers":    fmt.Sprintf("HPUB fleets.up.a.events.x %d %d\r\nNATS/1.0\r\n%s\r\n{}\r\n", len(lines)+12, len(lines)+14, lines),
		"discovery":  "PUB $SRV.PING _INBOX_alice.x 0\r\n\r\n",
		"requests":   "PUB fleets.req.a.shadow.get _INBOX_alice.x 0\r\n\r\n",
		"JetStream":  "PUB $JS.API.CONSUMER.MSG.NEXT.FLEETS_DOWN.x _INBOX_alice.x 0\r\n\r\n",
		"its own":    "PUB _INBOX_alice.x 2\r\n{}\r\n",
		"large ones": "PUB fleets.up.a.events.x 60000\r\n" + strings.Repeat("x", 60000) + "\r\n",
	} {
		t.Run(what, func(t *testing.T) {
			r := withUsersAt(t, StoreConfig{}, User{Name: "alice"}, User{Name: "bob", Things: []mapping.Thing{"b"}})
			r.journal.forgive("Readloop processing time", " nowhere") // of a busy machine; what is on its way when the test ends
			brake, stuck := r.server.Brake(), make(chan *nats.Msg, 1000)
			brake.patience = time.Minute
			leave, err := brake.through(r.nc, stuck)
			if err != nil {
				t.Fatal(err)
			}
			defer leave()
			flush(t, r.nc)
			const n = 1 << 20
			alice := rawLogin(t, r.server.URL(), "alice")
			ended := alice.flood(n, "%s", line)
			var first *nats.Msg
			select {
			case first = <-stuck:
			case <-time.After(patience):
				t.Fatal("nothing follows what is sent")
			}
			bob := rawLogin(t, r.server.URL(), "bob")
			for range 10 {
				if _, data := bob.request("bob", "fleets.up.b.events.x", "", `{}`); !strings.Contains(data, `"seq"`) {
					t.Fatal(data)
				}
			}
			if had := r.taken("program-alice"); had > brakeBytes {
				t.Errorf("%d bytes are under way", had)
			}
			for brake.back(first); ; {
				select {
				case m := <-stuck:
					brake.back(m)
					continue
				case <-ended:
				case <-time.After(patience):
					t.Fatal("the flood does not go on")
				}
				return
			}
		})
	}
}

// TestBrakeForgets: when programs have gone, whatever they had sent, nothing is under way.
func TestBrakeForgets(t *testing.T) {
	r := newRig(t, "a")
	r.journal.forgive(" nowhere") // what is on its way when the test ends
	for range 3 {
		c := rawLogin(t, r.server.URL(), "")
		ended := c.flood(16<<20, "PUB fleets.up.a.events.x 2\r\n{}\r\n")
		eventually(t, "a mark", func() bool {
			r.server.brake.mu.Lock()
			defer r.server.brake.mu.Unlock()
			return r.server.brake.sent > 0
		})
		_ = c.conn.Close()
		<-ended
	}
	eventually(t, "nothing is under way", func() bool {
		b := r.server.brake
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.under.Used() == 0 && b.api.Used() == 0 && len(b.marks) == 0
	})
}

// TestBrakeShares: who floods has one half, two a third each, and there is room for who comes next. What is never seen
// again is given up.
func TestBrakeShares(t *testing.T) {
	r := newRig(t, "a")
	b := newBrake(r.nc, r.subjects)
	b.patience = time.Hour
	gone := make(chan struct{})
	close(gone)
	for _, c := range []struct{ who, want int }{{1, brakeBytes / 2}, {2, brakeBytes / 4}, {3, brakeBytes / 8}} {
		for b.hold(c.who, c.who, load{bytes: brakeChunk}, gone) != nil {
		}
		if got := b.under.Of(c.who); got != c.want {
			t.Errorf("%d has %d, want %d", c.who, got, c.want)
		}
	}
	b.patience = time.Nanosecond
	b.hold(4, 4, load{bytes: brakeChunk}, gone)
	eventually(t, "given up", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.under.Of(4) == 0 })
	if b.hold(5, 5, load{bytes: brakeChunk - 1}, gone); b.fresh[5].bytes != brakeChunk-1 {
		t.Error("little is not counted")
	}
	if len(b.lines) != 0 || len(b.turns) != 0 {
		t.Error("who has gone waits")
	}
}

// TestBrakeAsked: who asks a lot that nobody may answer waits alone, and not for ever.
func TestBrakeAsked(t *testing.T) {
	r := newRig(t, "a")
	b := newBrake(r.nc, r.subjects)
	b.forget = time.Hour
	gone, n := make(chan struct{}), 0
	close(gone)
	ask := load{brakeChunk, 1024, 0}
	for ; ; n += ask.asked {
		m := b.hold("a", "a", ask, gone)
		if m == nil {
			break
		}
		m.release()
	}
	if n != maxAsked/2 {
		t.Errorf("one asks %d at a time", n)
	}
	for _, other := range []struct {
		who  string
		load load
	}{{"b", ask}, {"a", load{bytes: brakeChunk}}} {
		m := b.hold(other.who, other.who, other.load, gone)
		if m == nil {
			t.Fatalf("%+v waits", other)
		}
		m.release()
	}
	b.hold("c", "c", load{brakeChunk, 10, 0}, gone)
	if b.hold("c", "c", load{brakeChunk, leastAsked - 10, 0}, gone); b.asked.Of("c") != leastAsked {
		t.Errorf("of few, %d are counted", b.asked.Of("c"))
	}
	b = newBrake(r.nc, r.subjects)
	b.forget = time.Millisecond
	for range 2 * maxAsked / ask.asked {
		b.hold("a", "a", ask, make(chan struct{})).release()
	}
}

// TestUnansweredOfALogin: a login with many questions that nobody answers, all with one reply subject, is held back, and
// another one that sends a lot is not.
func TestUnansweredOfALogin(t *testing.T) {
	r := withUsers(t, User{Name: "alice"}, User{Name: "bob", Things: []mapping.Thing{"b"}})
	r.journal.forgive(" nowhere", "messages dropped")
	const most = 8 << 10
	r.server.brake.forget, r.server.brake.asked.Limit = time.Hour, 2*most
	line, err := NewHandlers(r.nc, r.subjects, r.server).Listen("a", "token")
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	alice, bob := rawLogin(t, r.server.URL(), "alice"), rawLogin(t, r.server.URL(), "bob")
	ended := alice.flood(16<<20, "PUB _fleets.reply.a.token _INBOX_alice.x 0\r\n\r\n")
	asked := func() int {
		r.server.brake.mu.Lock()
		defer r.server.brake.mu.Unlock()
		if len(r.server.brake.lines) == 0 {
			return 0
		}
		return r.server.brake.asked.Of("alice")
	}
	eventually(t, "alice waits", func() bool { return asked() > 0 })
	if n := asked(); n > most+1024 { // and a part of what was read last
		t.Errorf("%d questions count", n)
	}
	if n := r.server.nats.GlobalAccount().NumPendingAllResponses(); n > most+4096 {
		t.Errorf("the server keeps %d questions", n)
	}
	select {
	case <-bob.flood(1<<20, "PUB fleets.up.b.events.x 60000\r\n%s\r\n", strings.Repeat("x", 60000)):
	case <-time.After(patience):
		t.Error("bob waits for alice")
	}
	select {
	case <-ended:
		t.Error("alice does not wait")
	default:
	}
}

// TestFloodOfTheAPI: without users, who floods JetStream with questions of any kind keeps none of another's from an
// answer, and none is dropped.
func TestFloodOfTheAPI(t *testing.T) {
	for _, question := range []string{"$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.FLEETS_DOWN", "$JS.API.CONSUMER.LIST.FLEETS_DOWN", "$JS.API.CONSUMER.NAMES.FLEETS_DOWN", "$JS.API.INFO", "$JS.API.STREAM.PURGE.NONE", "_fleets.names"} {
		t.Run(question, func(t *testing.T) {
			r := newRig(t, "a")
			r.journal.forgive(" nowhere")
			flood := rawLogin(t, r.server.URL(), "")
			flood.flood(1<<30, "PUB %s raw.x 0\r\n\r\n", question)
			js := stream(t, r.program())
			for range 5 {
				if name, err := js.StreamNameBySubject(testContext(t), "fleets.down.a.>"); err != nil || name != "FLEETS_DOWN" {
					t.Fatal(name, err)
				}
				if _, err := r.store.js.Stream(testContext(t), "FLEETS_DOWN"); err != nil {
					t.Fatal(err)
				}
			}
			if n := r.journal.count("limit reached"); n > 0 {
				t.Error("questions are dropped")
			}
		})
	}
}

// TestBrakeTurns: those who wait are let in one after the other, each sender in turn, and nobody before there is room.
func TestBrakeTurns(t *testing.T) {
	r := newRig(t, "a")
	b := newBrake(r.nc, r.subjects)
	b.patience = time.Hour
	type turn struct {
		name string
		*marker
	}
	let := make(chan turn)
	whole := load{bytes: brakeBytes}
	now := turn{marker: b.hold("full", "full", whole, nil)}
	for _, w := range []struct {
		who, name string
		at        int
	}{{"a", "a1", 1}, {"a", "a2", 2}, {"b", "b1", 1}} {
		go func() { let <- turn{w.name, b.hold(w.who, w.who, whole, nil)} }()
		eventually(t, w.name+" waits", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.lines[w.who] != nil && len(b.lines[w.who].waiting) == w.at
		})
	}
	for _, want := range []string{"a1", "b1", "a2"} {
		select {
		case <-let:
			t.Fatal("somebody goes before there is room")
		default:
		}
		now.release()
		select {
		case now = <-let:
		case <-time.After(patience):
			t.Fatalf("%s waits for ever", want)
		}
		if now.name != want {
			t.Errorf("%s goes, want %s", now.name, want)
		}
	}
	if len(b.lines) != 0 || len(b.turns) != 0 {
		t.Error("somebody waits still")
	}
}

// TestTurnsDetain: whoever has much waiting gets no more room until little waits.
func TestTurnsDetain(t *testing.T) {
	var all turns
	m := &nats.Msg{}
	if all.detain("a", m) {
		t.Error("nothing waits")
	}
	for range laneMessages + turnsMax {
		all.put("a", &nats.Msg{Subject: "x"}, nil)
	}
	all.put("b", &nats.Msg{}, nil)
	if !all.detain("a", m) || all.detain("b", m) {
		t.Error("who has much waiting is held back, and nobody else")
	}
	for range 2 {
		if len(all.passed) > 0 {
			t.Error("too early")
		}
		all.take(nil)
	}
	if len(all.passed) != 1 || all.passed[0] != m {
		t.Errorf("%d pass", len(all.passed))
	}
}

// TestUnansweredIsForgotten: what JetStream or the bridge do not answer, the server does not remember for long.
func TestUnansweredIsForgotten(t *testing.T) {
	r := withUsers(t, User{Name: "alice"})
	r.journal.forgive("ACK sequence 99 past last", "messages dropped")
	js := stream(t, r.login("alice"))
	consumer, err := js.CreateConsumer(testContext(t), "FLEETS_DOWN", jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy, InactiveThreshold: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	down, err := r.store.js.Stream(testContext(t), "FLEETS_DOWN")
	if err != nil {
		t.Fatal(err)
	}
	real := ""
	for name := range down.ConsumerNames(testContext(t)).Name() {
		if shownName(name) == consumer.CachedInfo().Name {
			real = name
		}
	}
	line, err := NewHandlers(r.nc, r.subjects, r.server).Listen("a", "token")
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	alice := rawLogin(t, r.server.URL(), "alice")
	for i := range 500 {
		for _, payload := range []string{"", "+WPI", "-NAK", "+TERM", "-NAK {\"delay\":1}", "nonsense"} {
			alice.publish("$JS.ACK.FLEETS_DOWN."+real+".1.99.1.1.0", fmt.Sprintf("_INBOX_alice.%d", i), "", payload)
		}
		alice.publish("_fleets.reply.a.token", fmt.Sprintf("_INBOX_alice.%d", i), "", "")
		alice.publish("$JS.FC.FLEETS_DOWN."+real+".x", fmt.Sprintf("_INBOX_alice.%d", i), "", "")
	}
	alice.flush()
	eventually(t, "the server forgets", func() bool { return r.server.nats.GlobalAccount().NumPendingAllResponses() == 0 })
}
