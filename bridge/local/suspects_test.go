package local

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/clerk"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// What the tests of isolation are made of: who attacks, what there is to attack, and who watches.

func suspects() []access.User {
	users := []access.User{{Name: "alice", Things: []mapping.Thing{"a"}}, {Name: "bob", Things: []mapping.Thing{"b"}}}
	for _, a := range access.Allowances {
		users = append(users, access.User{Name: a, Things: []mapping.Thing{"a"}, Allow: []string{a}})
	}
	return users
}

func attackers() []string { return append([]string{"alice"}, access.Allowances[:]...) }

// foreign are subjects that no attacker may reach: Bob's, the bridge's own, and the server's.
func foreign() []string {
	return []string{
		"fleets.up.b.shadow.update", "fleets.up.b.events.x", "fleets.up.b.commands.e.response", "fleets.up.b.jobs.get",
		"fleets.req.b.shadow.get", "fleets.req.b.events.x", "fleets.req.b.commands.e.response", "fleets.req.b.jobs.get",
		"fleets.cmd.b.purge", "fleets.cmd.a.purge", "fleets.down.b.jobs.notify", "fleets.down.a.jobs.notify", "fleets.dead.up.b.events.x",
		"_fleets.up.b.events.x", "_fleets.up.b.jobs.get", "_fleets.down.b.jobs.notify", "_fleets.down.a.jobs.notify", "_fleets.dead.up.b.events.x",
		"_fleets.reply.b.x", "_fleets.api.bob.INFO", "_fleets.deliver.bob._INBOX_bob.x", "_INBOX_bob.x", "_INBOX.x",
		"$KV.FLEETS_SHADOW.b", "$KV.FLEETS_STATUS.b", "$KV.FLEETS_EXECUTIONS.done.b.e", "$KV.FLEETS_LEASES.b.j", "$KV.FLEETS_MARKS.b", "$KV.FLEETS_SHADOW.a",
		"$JS.API.STREAM.PURGE.FLEETS_UP_CONTROL", "$JS.API.STREAM.DELETE.FLEETS_DOWN", "$JS.API.STREAM.UPDATE.FLEETS_DOWN",
		"$JS.API.STREAM.MSG.GET.FLEETS_UP_TELEMETRY", "$JS.API.STREAM.MSG.DELETE.FLEETS_DOWN", "$JS.API.STREAM.INFO.FLEETS_UP_CONTROL", "$JS.API.STREAM.LIST",
		"$JS.API.DIRECT.GET.FLEETS_DOWN.fleets.down.b.jobs.notify", "$JS.API.DIRECT.GET.KV_FLEETS_SHADOW.$KV.FLEETS_SHADOW.b", "$JS.API.DIRECT.GET.KV_FLEETS_STATUS.$KV.FLEETS_STATUS.b",
		"$JS.API.DIRECT.GET.FLEETS_DEAD", "$JS.API.DIRECT.GET.KV_FLEETS_EXECUTIONS",
		"$JS.API.CONSUMER.CREATE.FLEETS_UP_CONTROL.x", "$JS.API.CONSUMER.CREATE.FLEETS_DEAD.x", "$JS.API.CONSUMER.DELETE.FLEETS_UP_CONTROL.b",
		"$JS.API.CONSUMER.MSG.NEXT.FLEETS_UP_CONTROL.b", "$JS.API.CONSUMER.MSG.NEXT.FLEETS_UP_TELEMETRY.b",
		"$JS.ACK.FLEETS_UP_CONTROL.b.1.1.1.1.0", "$JS.ACK.FLEETS_UP_TELEMETRY.b.1.1.1.1.0", "$JS.FC.FLEETS_UP_CONTROL.b.x",
		"$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.USER.INFO", "_R_.x.y", "$NRG.x", "$GR.x", "_GR_.x.y.z",
	}
}

// questions are what an attacker may ask and is answered, so that the answer could go astray.
func questions(user string) map[string][]byte {
	all := map[string]map[string][]byte{
		access.AllowReport:   {"fleets.up.a.shadow.update": nil, "fleets.req.a.shadow.get": nil},
		access.AllowEvents:   {"fleets.up.a.events.x": nil, "fleets.req.a.events.x": nil},
		access.AllowCommands: {"fleets.up.a.commands.e.response": nil, "fleets.req.a.commands.e.response": nil, "_fleets.reply.a.x": nil},
		access.AllowJobs:     {"fleets.up.a.jobs.get": nil, "fleets.req.a.jobs.get": nil, "$SRV.PING": nil, "$SRV.INFO.fleetbridge": nil},
		access.AllowRead: {
			"$JS.API.DIRECT.GET.FLEETS_DOWN.fleets.down.a.jobs.notify": nil, "$JS.API.DIRECT.GET.KV_FLEETS_SHADOW.$KV.FLEETS_SHADOW.a": nil,
			"$JS.API.DIRECT.GET.FLEETS_DOWN": []byte(`{"last_by_subj":"fleets.down.a.jobs.notify"}`),
			"$JS.API.INFO":                   nil, "$JS.API.STREAM.INFO.FLEETS_DOWN": nil, "$JS.API.STREAM.NAMES": nil,
			"$JS.API.CONSUMER.CREATE.FLEETS_DOWN.x": []byte(`{"config":{}}`), "$JS.API.CONSUMER.MSG.NEXT.FLEETS_DOWN.x": []byte(`{"batch":1}`),
		},
	}
	out := map[string][]byte{}
	for allowance, some := range all {
		for subject, body := range some {
			if user == "alice" || user == allowance {
				out[subject] = body
			}
		}
	}
	return out
}

// witness notes every message in one account.
type witness struct {
	t  *testing.T
	nc *nats.Conn

	mu   sync.Mutex
	seen []string
}

// watch begins before the attack. On the bridge's account it sees everything; it would be a handler of
// all commands, too.
func watch(t *testing.T, nc *nats.Conn, subjects ...string) *witness {
	t.Helper()
	w := &witness{t: t, nc: nc}
	for _, s := range subjects {
		if _, err := nc.Subscribe(s, func(m *nats.Msg) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.seen = append(w.seen, m.Subject)
		}); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, nc)
	return w
}

// told waits until everything before has been noted, and returns it.
func (w *witness) told(mark func(), last string) []string {
	w.t.Helper()
	mark()
	eventually(w.t, "the witness has seen "+last, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Contains(w.seen, last)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.seen), func(s string) bool { return s == last })
}

// bobs are the subjects on which Bob hears.
func bobs() []string {
	return []string{"_INBOX_bob.>", "fleets.down.b.>", "fleets.cmd.b.>", "$SRV.>"}
}

// settled waits until JetStream has carried out all that was asked before.
func (y *yard) settled() {
	y.t.Helper()
	js := stream(y.t, y.nc)
	for _, subject := range []string{"fleets.up.c.events.settled", "fleets.up.c.jobs.get", "_fleets.down.c.jobs.notify", "$KV.FLEETS_SHADOW.c"} {
		if _, err := js.Publish(testContext(y.t), subject, nil); err != nil {
			y.t.Fatal(err)
		}
	}
}

// holdings is what every stream has on each subject, and which consumers there are.
func (y *yard) holdings() map[string]uint64 {
	y.t.Helper()
	out := map[string]uint64{}
	js := stream(y.t, y.nc)
	list := js.ListStreams(testContext(y.t))
	for info := range list.Info() {
		s, err := js.Stream(testContext(y.t), info.Config.Name)
		if err != nil {
			y.t.Fatal(err)
		}
		full, err := s.Info(testContext(y.t), jetstream.WithSubjectFilter(">"))
		if err != nil {
			y.t.Fatal(err)
		}
		for subject, n := range full.State.Subjects {
			if tokens := strings.Split(subject, "."); slices.Contains(tokens, "b") || slices.Contains(tokens, "down") {
				out[subject] = n
			}
		}
		names := s.ConsumerNames(testContext(y.t))
		for name := range names.Name() {
			if !strings.Contains(name, clerk.ConsumerMark) || strings.HasPrefix(name, "bob") {
				out["consumer "+name] = 1
			}
		}
	}
	if list.Err() != nil {
		y.t.Fatal(list.Err())
	}
	queued, err := y.up().Queued(testContext(y.t))
	if err != nil {
		y.t.Fatal(err)
	}
	out["queued of b"] = queued["b"]
	return out
}

// furnish gives b something to take away.
func (y *yard) furnish() {
	y.t.Helper()
	ctx := testContext(y.t)
	bob := stream(y.t, y.as("bob"))
	for _, subject := range []string{"fleets.up.b.events.x", "fleets.up.b.jobs.get"} {
		if _, err := bob.Publish(ctx, subject, []byte("bob's")); err != nil {
			y.t.Fatal(err)
		}
	}
	for _, thing := range []mapping.Thing{"a", "b"} {
		y.hint(thing, "for "+string(thing))
		for _, bucket := range []*bucket{y.store.bucket(wire.BucketShadow), y.store.bucket(wire.BucketStatus)} {
			if err := bucket.Put(ctx, string(thing), []byte("of "+string(thing))); err != nil {
				y.t.Fatal(err)
			}
		}
	}
}

// renew writes b's status again, as a bridge does: on an external server it expires.
func (y *yard) renew() {
	y.t.Helper()
	if err := y.store.bucket(wire.BucketStatus).Put(testContext(y.t), "b", []byte("of b")); err != nil {
		y.t.Fatal(err)
	}
}

// attack runs f for each attacker and tells what the bridge and Bob saw, and that nothing changed.
func (y *yard) attack(t *testing.T, f func(t *testing.T, name string, nc *nats.Conn), check func(t *testing.T, name, seen string)) {
	t.Helper()
	y.furnish()
	for _, name := range attackers() {
		y.renew()
		before := y.holdings()
		y.settled()
		bob := watch(t, y.as("bob"), bobs()...)
		inside := watch(t, y.peer(), ">")
		f(t, name, y.as(name, nats.NoEcho()))
		y.settled()
		for _, subject := range append(inside.told(func() { y.mark(t, y.nc, "end") }, "end"), bob.told(func() { y.mark(t, bob.nc, "_INBOX_bob.end") }, "_INBOX_bob.end")...) {
			check(t, name, subject)
		}
		bob.nc.Close()
		inside.nc.Close()
		after := y.holdings()
		for what, n := range before {
			if what != "fleets.down.c.jobs.notify" && after[what] != n {
				t.Errorf("%s: %s: %d became %d", name, what, n, after[what])
			}
		}
		for what := range after {
			if _, was := before[what]; !was && what != "fleets.down.c.jobs.notify" {
				t.Errorf("%s: new: %s", name, what)
			}
		}
	}
}

func (y *yard) mark(t *testing.T, nc *nats.Conn, subject string) {
	t.Helper()
	if err := nc.Publish(subject, nil); err != nil {
		t.Fatal(err)
	}
	flush(t, nc)
}

// peer is another connection in the bridge's account.
func (y *yard) peer() *nats.Conn {
	y.t.Helper()
	if y.server != nil {
		nc, err := y.server.Connect("witness")
		if err != nil {
			y.t.Fatal(err)
		}
		return nc
	}
	nc, err := nats.Connect(y.url, nats.UserInfo("bridge", "pass"), nats.Timeout(patience),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // of headers that can't be read
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(nc.Close)
	return nc
}

func isForeign(t *testing.T, name, seen string) {
	t.Helper()
	for _, own := range []string{"_fleets.api.", "_fleets.asked."} { // where the Clerk reads what the attacker asks
		if strings.HasPrefix(seen, own+name+".") {
			return
		}
	}
	tokens := strings.Split(seen, ".")
	if slices.Contains(tokens, "b") || slices.Contains(tokens, "bob") || slices.Contains(tokens, "_INBOX_bob") {
		t.Errorf("%s reached %s", name, seen)
	}
}
