package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/bus"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

func busUsers() []access.User {
	bus := []string{"app.>", "hello"}
	return []access.User{{Name: "alice", Things: []mapping.Thing{"a"}, Bus: bus}, {Name: "bob", Things: []mapping.Thing{"b"}, Allow: []string{access.AllowRead}, Bus: bus}}
}

// TestUsersTalk: on the bus users publish and subscribe, ask and answer, and share queue groups, as on one NATS.
func TestUsersTalk(t *testing.T) {
	t.Parallel()
	inYards(t, busUsers(), func(t *testing.T, y *yard) {
		alice, bob := y.as("alice"), y.as("bob")
		heard := make(chan *nats.Msg, 64)
		for _, nc := range []*nats.Conn{alice, bob} {
			for _, subject := range []string{"app.news.>", "hello"} {
				if _, err := nc.ChanSubscribe(subject, heard); err != nil {
					t.Fatal(err)
				}
			}
		}
		shared := make(chan *nats.Msg, 64)
		for _, nc := range []*nats.Conn{alice, bob} {
			if _, err := nc.ChanQueueSubscribe("app.work", "workers", shared); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := bob.Subscribe("app.ask.>", func(m *nats.Msg) {
			out := nats.NewMsg(m.Reply)
			out.Data, out.Header["Kind"] = append([]byte("re: "), m.Data...), m.Header["Kind"]
			_ = bob.PublishMsg(out)
			_ = m.Respond([]byte("more"))
		}); err != nil {
			t.Fatal(err)
		}
		flush(t, alice, bob)
		for _, subject := range []string{"app.news.x", "hello"} {
			if err := alice.Publish(subject, []byte("1")); err != nil {
				t.Fatal(err)
			}
		}
		for range 4 {
			hear(t, heard)
		}
		const work = 30
		for n := range work {
			if err := bob.Publish("app.work", fmt.Append(nil, n)); err != nil {
				t.Fatal(err)
			}
		}
		var done []string
		for range work {
			done = append(done, string(hear(t, shared).Data))
		}
		if slices.Sort(done); len(slices.Compact(done)) != work {
			t.Errorf("the group did %q", done)
		}
		question := &nats.Msg{Subject: "app.ask.x", Data: []byte("q"), Header: nats.Header{"Kind": {"ä"}}}
		answer, err := alice.RequestMsg(question, patience)
		if err != nil || string(answer.Data) != "re: q" || answer.Header.Get("Kind") != "ä" {
			t.Errorf("answer %v, %v", answer, err)
		}
		if m, err := bob.Request("app.nobody", nil, patience); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("nobody there: %v, %v", m, err)
		}
		inbox, err := alice.SubscribeSync(alice.NewInbox())
		if err != nil {
			t.Fatal(err)
		}
		if err := alice.PublishRequest("app.ask.y", inbox.Subject, []byte("r")); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"re: r", "more"} {
			if m, err := inbox.NextMsg(patience); err != nil || string(m.Data) != want {
				t.Errorf("%v, %v; want %s", m, err, want)
			}
		}
		if len(heard)+len(shared) > 0 {
			t.Errorf("%d, %d came twice", len(heard), len(shared))
		}
	})
}

func hear(t *testing.T, in chan *nats.Msg) *nats.Msg {
	t.Helper()
	select {
	case m := <-in:
		return m
	case <-testContext(t).Done():
		t.Fatal("not in time")
		return nil
	}
}

// TestServiceOnTheBus: a service of one user answers another's requests, errors too.
func TestServiceOnTheBus(t *testing.T) {
	t.Parallel()
	inYards(t, busUsers(), func(t *testing.T, y *yard) {
		alice, bob := y.as("alice"), y.as("bob")
		s, err := micro.AddService(bob, micro.Config{Name: "sums", Version: "1.0.0", Endpoint: &micro.EndpointConfig{Subject: "app.sum",
			Handler: micro.HandlerFunc(func(r micro.Request) { _ = r.Error("400", "no numbers", nil) })}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Stop() }()
		flush(t, bob)
		if bob.LastError() != nil {
			t.Error(bob.LastError())
		}
		m, err := alice.Request("app.sum", nil, patience)
		if err != nil || m.Header.Get(micro.ErrorCodeHeader) != "400" {
			t.Errorf("%v, %v", m, err)
		}
	})
}

// TestBusIsolation: the bus opens nothing else, and nobody answers in its name where it was not asked.
func TestBusIsolation(t *testing.T) {
	t.Parallel()
	users := append(busUsers(), access.User{Name: "carol", Things: []mapping.Thing{"c"}, Allow: []string{access.AllowEvents}})
	inYards(t, users, func(t *testing.T, y *yard) {
		alice, bob, carol := y.as("alice"), y.as("bob"), y.as("carol")
		y.journal.forgive("refused an answer on the bus")
		for _, subject := range []string{"app.x", "hello", access.BusIn(y.subjects) + "app.x", access.BusBack(y.subjects) + "x"} {
			if may(t, carol, "pub", subject) || may(t, carol, "sub", subject) {
				t.Errorf("who has no bus may use %s", subject)
			}
		}
		for _, subject := range []string{"apps.x", "hello.x", "app", access.BusOut(y.subjects) + "app.x", access.BusIn(y.subjects) + "other", "_R_.x"} {
			if may(t, bob, "pub", subject) {
				t.Errorf("bob may publish on %s", subject)
			}
		}
		for _, subject := range []string{">", "app", access.BusIn(y.subjects) + ">", access.BusOut(y.subjects) + ">", access.BusBack(y.subjects) + ">"} {
			if may(t, bob, "sub", subject) {
				t.Errorf("bob may subscribe to %s", subject)
			}
		}
		targets, err := alice.SubscribeSync("_INBOX_alice.>")
		if err != nil {
			t.Fatal(err)
		}
		down, err := alice.SubscribeSync("fleets.down.a.>")
		if err != nil {
			t.Fatal(err)
		}
		asked := make(chan *nats.Msg, 1)
		if _, err := bob.ChanSubscribe("app.ask", asked); err != nil {
			t.Fatal(err)
		}
		flush(t, alice, bob)
		if err := alice.PublishRequest("app.ask", "_INBOX_alice.real", nil); err != nil {
			t.Fatal(err)
		}
		given := hear(t, asked).Reply
		head, tail, _ := strings.Cut(given, wire.Crossing)
		for _, forged := range []string{head + "_INBOX_alice.x", head + "fleets.down.a.jobs.notify", head + wire.Crossing + "x", head + "_fleets.deliver.alice._INBOX_alice.x", given + "x"} {
			if err := bob.Publish(forged, []byte("forged")); err != nil {
				t.Fatal(err)
			}
		}
		if err := bob.Publish(head+wire.Crossing+tail, []byte("true")); err != nil {
			t.Fatal(err)
		}
		if m, err := targets.NextMsg(patience); err != nil || string(m.Data) != "true" {
			t.Errorf("alice heard %v, %v", m, err)
		}
		flush(t, bob, y.nc, alice)
		if n, _, _ := targets.Pending(); n > 0 {
			t.Errorf("%d more came to alice", n)
		}
		if n, _, _ := down.Pending(); n > 0 {
			t.Errorf("%d came down", n)
		}
		if m, err := bob.Request(head+wire.Crossing+tail, []byte("and?"), patience); err != nil || len(m.Data) > 0 {
			t.Errorf("an answer that asks is not ended at once: %v, %v", m, err)
		}
	})
}

// TestBusChanges: a bus comes and goes while the server runs.
func TestBusChanges(t *testing.T) {
	t.Parallel()
	users := busUsers()
	for i := range users {
		users[i].Bus = nil
	}
	inYards(t, users, func(t *testing.T, y *yard) {
		if y.server == nil {
			t.Skip("an external server has what is printed")
		}
		set := func(bus ...string) {
			now := slices.Clone(users)
			for i := range now {
				now[i].Bus = bus
			}
			leave, err := y.clerk.SetUsers(now, []mapping.Thing{"a", "b", "c"})
			if err == nil {
				err = y.server.SetUsers(now, []mapping.Thing{"a", "b", "c"})
			}
			if err != nil {
				t.Fatal(err)
			}
			leave()
		}
		asks := func() error {
			alice, bob := y.as("alice"), y.as("bob")
			if _, err := bob.Subscribe("app.x", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
				t.Fatal(err)
			}
			flush(t, bob)
			if !may(t, alice, "pub", "app.y") {
				return errors.New("not allowed")
			}
			ctx, cancel := context.WithTimeout(testContext(t), patience)
			defer cancel()
			_, err := alice.RequestWithContext(ctx, "app.x", nil)
			return err
		}
		if asks() == nil {
			t.Error("there is a bus before there is one")
		}
		set("app.>", "more")
		if err := asks(); err != nil {
			t.Error(err)
		}
		set("app.x", "app.y")
		if err := asks(); err != nil {
			t.Error(err)
		}
		set()
		if asks() == nil {
			t.Error("there is still a bus")
		}
	})
}

// TestBusForgets: of requests on the bus the server remembers a bounded number, whether they are answered or not; the latest
// are still answered.
func TestBusForgets(t *testing.T) {
	t.Parallel()
	users := busUsers()
	for i := range users {
		users[i].Password = "secret"
	}
	r := newRigWith(t, embedded.Config{Users: users}, StoreConfig{Things: []mapping.Thing{"a", "b"}})
	r.journal.forgive("Readloop processing time") // of a busy machine
	nc, err := r.server.Connect("fleetbridge bus")
	if err == nil {
		err = r.server.Brake().Through(nc)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := bus.Serve(nc, r.subjects, r.journal.log()); err != nil {
		t.Fatal(err)
	}
	bob := r.login("bob")
	if _, err := bob.Subscribe("app.silent", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Subscribe("app.echo", func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
		t.Fatal(err)
	}
	flush(t, bob)
	alice := rawLogin(t, r.server.URL(), "alice")
	for i := range bus.MaxRequests/2 + 100 {
		alice.publish("app.silent", fmt.Sprintf("_INBOX_alice.q%d", i), "", "")
		alice.publish("app.nobody", "_INBOX_alice.x", "", "")
	}
	if _, data := alice.request("alice", "app.echo", "", "still there"); data != "still there" {
		t.Errorf("%q", data)
	}
	eventually(t, "the server forgets", func() bool { return r.server.NATS().GlobalAccount().NumPendingAllResponses() <= bus.MaxRequests+1 })
}

// TestWhoSaidIt: a program that hides from the server a header of its own beside the server's is still who it is.
func TestWhoSaidIt(t *testing.T) {
	t.Parallel()
	r := withUsers(t, busUsers()...)
	heard := make(chan *nats.Msg, 1)
	for _, subject := range []string{access.BusIn(r.subjects) + ">", "fleets.req.a.>"} {
		if _, err := r.nc.ChanSubscribe(subject, heard); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, r.nc)
	alice := rawLogin(t, r.server.URL(), "alice")
	for _, subject := range []string{"app.x", "fleets.req.a.events.x"} {
		alice.publish(subject, "_INBOX_alice.x", "NATS/1.0\r\nX: Nats-Request-InfoNats-Request-Info\r\nNats-Request-Info: {\"acc\":\"program-bob\"}\r\n\r\n", "{}")
		m := hear(t, heard)
		if len(m.Header[wire.HeaderRequestInfo]) != 2 {
			t.Errorf("%s: nothing is hidden any more: %v", subject, m.Header)
		}
		if who := wire.AccountOf(m.Header); who != "program-alice" {
			t.Errorf("%s: said by %q", subject, who)
		}
	}
}
