package local

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/clerk"
	"fleetbridge/bridge/local/door"
	"fleetbridge/bridge/local/services"
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
	list, err := r.server.NATS().Connz(&server.ConnzOptions{Username: true, Limit: door.MaxConns})
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
	t.Parallel()
	lines := strings.Repeat("X: y\r\n", 28)
	const subscribes = "subscribes"
	for what, line := range map[string]string{
		"plain":      "PUB fleets.up.a.events.x 2\r\n{}\r\n",
		"headers":    fmt.Sprintf("HPUB fleets.up.a.events.x %d %d\r\nNATS/1.0\r\n%s\r\n{}\r\n", len(lines)+12, len(lines)+14, lines),
		"discovery":  "PUB $SRV.PING _INBOX_alice.x 0\r\n\r\n",
		"requests":   "PUB fleets.req.a.shadow.get _INBOX_alice.x 0\r\n\r\n",
		"JetStream":  "PUB $JS.API.CONSUMER.MSG.NEXT.FLEETS_DOWN.x _INBOX_alice.x 0\r\n\r\n",
		"its own":    "PUB _INBOX_alice.x 2\r\n{}\r\n",
		subscribes:   "SUB _INBOX_alice.x.y 7\r\n",
		"large ones": "PUB fleets.up.a.events.x 60000\r\n" + strings.Repeat("x", 60000) + "\r\n",
	} {
		t.Run(what, func(t *testing.T) {
			r := withUsersAt(t, StoreConfig{}, access.User{Name: "alice"}, access.User{Name: "bob", Things: []mapping.Thing{"b"}})
			r.journal.forgive("Readloop processing time", " nowhere") // of a busy machine; what is on its way when the test ends
			brake, stuck := r.server.Brake(), make(chan *nats.Msg, 1000)
			brake.Tune(time.Minute, 0, 0)
			leave, err := brake.ThroughChannel(r.nc, stuck)
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
			most := door.BrakeBytes
			if what == subscribes { // which costs the server more than its bytes
				most /= 10
			}
			if had := r.taken("program-alice"); had > most {
				t.Errorf("%d bytes are under way", had)
			}
			for brake.Back(first); ; {
				select {
				case m := <-stuck:
					brake.Back(m)
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
	t.Parallel()
	r := newRig(t, "a")
	r.journal.forgive(" nowhere") // what is on its way when the test ends
	for range 3 {
		c := rawLogin(t, r.server.URL(), "")
		ended := c.flood(16<<20, "PUB fleets.up.a.events.x 2\r\n{}\r\n")
		eventually(t, "a mark", func() bool {
			return r.server.Brake().UnderWay().Sent > 0
		})
		_ = c.conn.Close()
		<-ended
	}
	eventually(t, "nothing is under way", func() bool {
		n := r.server.Brake().UnderWay()
		return n.Bytes == 0 && n.Questions == 0 && n.Marks == 0
	})
}

// TestUnansweredOfALogin: a login with many questions that nobody answers, all with one reply subject, is held back, and
// another one that sends a lot is not.
func TestUnansweredOfALogin(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "alice"}, access.User{Name: "bob", Things: []mapping.Thing{"b"}})
	r.journal.forgive(" nowhere", "messages dropped")
	const most = 8 << 10
	r.server.Brake().Tune(0, time.Hour, 2*most)
	line, err := services.NewHandlers(r.nc, r.subjects, r.server.NATS(), nil).Listen("a", "token")
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	alice, bob := rawLogin(t, r.server.URL(), "alice"), rawLogin(t, r.server.URL(), "bob")
	ended := alice.flood(16<<20, "PUB _fleets.reply.a.token _INBOX_alice.x 0\r\n\r\n")
	asked := func() int {
		if r.server.Brake().UnderWay().Waiting == 0 {
			return 0
		}
		return r.server.Brake().AskedBy("alice")
	}
	eventually(t, "alice waits", func() bool { return asked() > 0 })
	if n := asked(); n > most+1024 { // and a part of what was read last
		t.Errorf("%d questions count", n)
	}
	if n := r.server.NATS().GlobalAccount().NumPendingAllResponses(); n > most+4096 {
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
	t.Parallel()
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

// TestTurnsDetain: whoever has much waiting gets no more room until little waits.
func TestTurnsDetain(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	r := withUsers(t, access.User{Name: "alice"})
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
		if clerk.ShownName(name) == consumer.CachedInfo().Name {
			real = name
		}
	}
	line, err := services.NewHandlers(r.nc, r.subjects, r.server.NATS(), nil).Listen("a", "token")
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
	eventually(t, "the server forgets", func() bool { return r.server.NATS().GlobalAccount().NumPendingAllResponses() == 0 })
}
