package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/clerk"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/internal/race"
	"fleetbridge/mapping"
)

// roster is a yard whose users change while it is open.
type roster struct {
	*yard
	clerk  *clerk.Clerk
	things []mapping.Thing // that are configured
}

func openRoster(t *testing.T, users ...access.User) *roster {
	t.Helper()
	r := newRigWith(t, embedded.Config{Users: users}, StoreConfig{Things: []mapping.Thing{"a", "b"}})
	y := &roster{yard: &yard{rig: r, url: r.server.URL()}, things: []mapping.Thing{"a", "b"}}
	r.journal.forgive(" - cid:", "more about clients", "a client's error")
	var err error
	if y.clerk, err = clerk.Serve(r.nc, r.subjects, users, nil, r.journal.log()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { y.clerk.Close() })
	return y
}

// set changes the users, as the bridge does.
func (r *roster) set(users ...access.User) {
	r.t.Helper()
	leave, err := r.clerk.SetUsers(users, r.things)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.server.SetUsers(users, r.things); err != nil {
		r.t.Fatal(err)
	}
	leave()
}

// watched is a program that notices when its connection ends.
type watchedConn struct {
	*nats.Conn
	lost chan struct{}
}

func (r *roster) watched(name string, options ...nats.Option) watchedConn {
	r.t.Helper()
	lost := make(chan struct{})
	once := sync.OnceFunc(func() { close(lost) })
	nc := r.as(name, append([]nats.Option{nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { once() })}, options...)...)
	return watchedConn{nc, lost}
}

// ends waits until the connection has ended.
func (w watchedConn) ends(t *testing.T) {
	t.Helper()
	select {
	case <-w.lost:
	case <-time.After(patience):
		t.Fatal("the connection is still there")
	}
}

// refused reports whether the server lets nobody in with this login.
func (r *roster) refused(name, password string) bool {
	r.t.Helper()
	nc, err := nats.Connect(r.url, nats.Timeout(patience), nats.UserInfo(name, password))
	if err == nil {
		nc.Close()
		return false
	}
	if !errors.Is(err, nats.ErrAuthorization) {
		r.t.Fatal(err)
	}
	return true
}

func named(name string, things ...mapping.Thing) access.User {
	return access.User{Name: name, Password: "secret", Things: things}
}

// While others come, change and go, a busy user loses nothing: not its connection, not a publish, an answer, a message
// of a subscription or of a consumer, nor a change in a bucket.
func TestUsersComeAndGoBesideABusyOne(t *testing.T) {
	t.Parallel()
	busy := named("busy", "a")
	r := openRoster(t, busy, named("other", "b"))
	nc := r.watched("busy")
	js := stream(t, nc.Conn)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	live, err := nc.SubscribeSync("fleets.down.a.jobs.notify")
	if err != nil {
		t.Fatal(err)
	}
	ordered, err := js.OrderedConsumer(ctx, "FLEETS_DOWN", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"fleets.down.a.jobs.notify"}})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := ordered.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	flush(t, nc.Conn)
	var handled, asked atomic.Int32
	if _, err := nc.QueueSubscribe("fleets.cmd.a.purge", "g", func(m *nats.Msg) { handled.Add(1); _ = m.Respond([]byte(`{"status":"SUCCEEDED"}`)) }); err != nil {
		t.Fatal(err)
	}
	flush(t, nc.Conn)
	var working sync.WaitGroup
	working.Go(func() { // publishes without end, each of which must be stored
		for ctx.Err() == nil {
			if _, err := js.Publish(ctx, "fleets.up.a.events.x", []byte(`{}`), jetstream.WithRetryAttempts(0)); err != nil && ctx.Err() == nil {
				t.Errorf("publish: %v", err)
				return
			}
			asked.Add(1)
		}
	})
	const rounds = 12
	for i := range rounds {
		next := []access.User{busy}
		switch i % 4 {
		case 0:
			next = append(next, named("other", "b"), named(fmt.Sprintf("new-%d", i), "a", "b"))
		case 1:
			next = append(next, access.User{Name: "other", Password: fmt.Sprint(i), Things: []mapping.Thing{"b"}})
		case 2:
			next = append(next, access.User{Name: "other", Password: "secret", Things: []mapping.Thing{"b"}, Allow: []string{access.AllowRead}})
		case 3:
			next = append(next, named("other", "a"))
		}
		before := asked.Load()
		r.set(next...)
		r.hint("a", fmt.Sprintf(`{"n":%d}`, i))
		if _, err := r.call("a", "purge"); err != nil {
			t.Errorf("round %d: a command: %v", i, err)
		}
		waitUntil(t, func() bool { return asked.Load() > before })
	}
	cancel()
	working.Wait()
	for i := range rounds {
		want := fmt.Sprintf(`{"n":%d}`, i)
		if m, err := live.NextMsg(patience); err != nil || string(m.Data) != want {
			t.Fatalf("live: %v, want %s: %v", m, want, err)
		}
		if m, err := messages.Next(jetstream.NextMaxWait(patience)); err != nil || string(m.Data()) != want {
			t.Fatalf("by a consumer: %v, want %s: %v", m, want, err)
		}
	}
	if handled.Load() != rounds {
		t.Errorf("%d commands, want %d", handled.Load(), rounds)
	}
	select {
	case <-nc.lost:
		t.Error("the busy user's connection ended")
	default:
	}
	if m, err := live.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("once more: %s", m.Data)
	}
	if err := nc.LastError(); err != nil {
		t.Error(err)
	}
}

func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time")
		}
	}
}

// A user that is removed is out at once and stays out, and comes back as new.
func TestUserRemoved(t *testing.T) {
	t.Parallel()
	r := openRoster(t, named("stays", "a"), named("goes", "a"))
	goes, stays := r.watched("goes"), r.watched("stays")
	if _, err := stream(t, goes.Conn).CreateConsumer(t.Context(), "FLEETS_DOWN", jetstream.ConsumerConfig{InactiveThreshold: time.Hour}); err != nil {
		t.Fatal(err)
	}
	r.set(named("stays", "a"))
	goes.ends(t)
	if !r.refused("goes", "secret") {
		t.Error("it comes in again")
	}
	if n := r.consumers("goes"); n != 0 {
		t.Errorf("%d consumers stay", n)
	}
	r.set(named("stays", "a"), named("goes", "b"))
	again := r.watched("goes")
	if may(t, again.Conn, "pub", "fleets.up.a.events.x") || !may(t, r.watched("goes").Conn, "pub", "fleets.up.b.events.x") {
		t.Error("it has the rights that it had")
	}
	select {
	case <-stays.lost:
		t.Error("the other's connection ended")
	default:
	}
}

// consumers counts a user's.
func (r *roster) consumers(user string) int {
	r.t.Helper()
	n := 0
	s, err := stream(r.t, r.nc).Stream(r.t.Context(), "FLEETS_DOWN")
	if err != nil {
		r.t.Fatal(err)
	}
	names := s.ConsumerNames(r.t.Context())
	for name := range names.Name() {
		if strings.HasPrefix(name, user+clerk.ConsumerMark) {
			n++
		}
	}
	return n
}

// Another password, a key in the place of a password, another key: who has the old one is out.
func TestUserWithAnotherLogin(t *testing.T) {
	t.Parallel()
	pairs := make([]nkeys.KeyPair, 2)
	keys := make([]string, 2)
	for i := range pairs {
		var err error
		if pairs[i], err = nkeys.CreateUser(); err != nil {
			t.Fatal(err)
		}
		keys[i], _ = pairs[i].PublicKey()
	}
	hash, err := access.User{Password: "hashed"}.Hash(4)
	if err != nil {
		t.Fatal(err)
	}
	ways := []struct {
		user  access.User
		login nats.Option
	}{
		{access.User{Password: "secret"}, nats.UserInfo("alice", "secret")},
		{access.User{Password: "other"}, nats.UserInfo("alice", "other")},
		{access.User{NKey: keys[0]}, nats.Nkey(keys[0], pairs[0].Sign)},
		{access.User{NKey: keys[1]}, nats.Nkey(keys[1], pairs[1].Sign)},
		{access.User{Password: hash}, nats.UserInfo("alice", "hashed")},
	}
	complete := func(u access.User) access.User {
		u.Name, u.Things = "alice", []mapping.Thing{"a"}
		return u
	}
	r := openRoster(t, complete(ways[0].user), named("bob", "a"))
	bob := r.watched("bob")
	for i, way := range ways {
		if i > 0 {
			before := r.watched("alice", ways[i-1].login)
			r.set(complete(way.user), named("bob", "a"))
			before.ends(t)
		}
		for j, other := range ways {
			nc, err := nats.Connect(r.url, nats.Timeout(patience), other.login, nats.CustomInboxPrefix("_INBOX_alice"))
			if (err == nil) != (i == j) {
				t.Errorf("with login %d, %d: %v", i, j, err)
			}
			if err != nil {
				continue
			}
			if _, err := stream(t, nc).Publish(t.Context(), "fleets.up.a.events.x", []byte(`{}`)); err != nil {
				t.Errorf("login %d: %v", i, err)
			}
			nc.Close()
		}
	}
	select {
	case <-bob.lost:
		t.Error("the other's connection ended")
	default:
	}
}

// Rights that are taken away are gone on the connections that there are, also in a roundabout way; rights on more
// Things are there without a new connection.
func TestUserWithOtherRights(t *testing.T) {
	t.Parallel()
	r := openRoster(t, named("alice", "a"), named("victim", "b"))
	nc := r.watched("alice")
	r.set(named("alice", "a", "b"), named("victim", "b"))
	js := stream(t, nc.Conn)
	for _, thing := range []string{"a", "b"} {
		if _, err := js.Publish(t.Context(), "fleets.up."+thing+".events.x", []byte(`{}`)); err != nil {
			t.Errorf("publish for %s: %v", thing, err)
		}
	}
	heard, err := nc.SubscribeSync("fleets.down.b.>")
	if err != nil {
		t.Fatal(err)
	}
	flush(t, nc.Conn)
	r.hint("b", `{"n":1}`)
	if m, err := heard.NextMsg(patience); err != nil || string(m.Data) != `{"n":1}` {
		t.Errorf("live: %v, %v", m, err)
	}
	consumer, err := js.CreateConsumer(t.Context(), "FLEETS_DOWN", jetstream.ConsumerConfig{FilterSubject: "fleets.down.b.>", InactiveThreshold: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := consumer.Next(jetstream.FetchMaxWait(patience)); err != nil || string(m.Data()) != `{"n":1}` {
		t.Errorf("replayed: %v, %v", m, err)
	}
	select {
	case <-nc.lost:
		t.Fatal("more rights ended the connection")
	default:
	}

	r.set(named("alice", "a"), named("victim", "b"))
	nc.ends(t)
	if n := r.consumers("alice"); n != 0 {
		t.Errorf("%d consumers stay", n)
	}
	if may(t, r.watched("alice").Conn, "pub", "fleets.up.b.events.x") || may(t, r.watched("alice").Conn, "sub", "fleets.down.b.>") {
		t.Error("the right is still there")
	}
	nc = r.watched("alice")
	r.forges(nc)
	// Of a Thing that is configured no more the rights go quietly, and do not come back with it.
	r.things = []mapping.Thing{"a"}
	for _, things := range [][]mapping.Thing{{"a", "b"}, {"a"}} {
		r.set(named("alice", things...), named("victim", "b"))
	}
	if _, err := stream(t, nc.Conn).Publish(t.Context(), "fleets.up.a.events.x", []byte(`{}`)); err != nil || may(t, nc.Conn, "pub", "fleets.up.b.events.x") {
		t.Errorf("after the Thing has gone: %v", err)
	}
	select {
	case <-nc.lost:
		t.Error("the connection ended with the Thing")
	default:
	}
	r.things = []mapping.Thing{"a", "b"}
	r.set(named("alice", "a"), named("victim", "b"))
	nc.ends(t)
	r.forges(r.watched("alice"))
}

// forges sends answers to a subject of b's, which must stay in the account of who asks.
func (r *roster) forges(nc watchedConn) {
	t := r.t
	t.Helper()
	// An answer that is sent to a subject of b's stays in alice's account.
	forged, err := r.nc.SubscribeSync("fleets.up.b.>")
	if err != nil {
		t.Fatal(err)
	}
	flush(t, r.nc)
	for _, subject := range []string{"fleets.up.a.events.x", "$JS.API.INFO", "$JS.API.STREAM.INFO.FLEETS_DOWN"} {
		if err := nc.PublishRequest(subject, "fleets.up.b.events.x", []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := nc.Request("$JS.API.INFO", nil, patience); err != nil {
		t.Fatal(err)
	}
	if m, err := forged.NextMsg(200 * time.Millisecond); err == nil {
		t.Errorf("b has %s", m.Data)
	}
}

// What can't be is refused whole.
func TestUsersThatCannotBe(t *testing.T) {
	t.Parallel()
	r := openRoster(t, named("alice", "a"))
	nc := r.watched("alice")
	for _, users := range [][]access.User{nil, {named("alice", "a"), named("alice", "b")}, {named("bob")}, {named("bob", "a"), {Name: "x.y", Password: "p", Things: []mapping.Thing{"a"}}}} {
		if err := r.server.SetUsers(users, r.things); err == nil {
			t.Errorf("%v is taken", users)
		}
	}
	if !r.refused("bob", "secret") {
		t.Error("bob is in")
	}
	if _, err := stream(t, nc.Conn).Publish(t.Context(), "fleets.up.a.events.x", []byte(`{}`)); err != nil {
		t.Error(err)
	}
	open := newRig(t, "a")
	if err := open.server.SetUsers([]access.User{named("alice", "a")}, nil); !errors.Is(err, embedded.ErrUsersNeedRestart) {
		t.Errorf("the first user: %v", err)
	}
}

// A thousand users come, change and go, with one that stays.
func TestThousandUsersChange(t *testing.T) {
	t.Parallel()
	r := openRoster(t, named("stays", "a"))
	nc := r.watched("stays")
	all := func(password string) []access.User {
		users := []access.User{named("stays", "a")}
		for i := range race.Part(1000) {
			users = append(users, access.User{Name: fmt.Sprintf("user-%d", i), Password: password, Things: []mapping.Thing{"b"}})
		}
		return users
	}
	for _, step := range []struct {
		name  string
		users []access.User
	}{{"come", all("one")}, {"the same", all("one")}, {"other passwords", all("two")}, {"one more", slices.Concat(all("two"), []access.User{named("late", "b")})}, {"go", all("")[:1]}} {
		began := time.Now()
		r.set(step.users...)
		t.Logf("%s: %s", step.name, time.Since(began).Round(time.Millisecond))
		if _, err := stream(t, nc.Conn).Publish(t.Context(), "fleets.up.a.events.x", []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
	}
	if !r.refused("user-7", "two") {
		t.Error("a user that is gone comes in")
	}
}
