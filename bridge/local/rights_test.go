package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/access"
	"fleetbridge/mapping"
)

// What users are allowed works with stock clients.

func TestUsersPublishAndAsk(t *testing.T) {
	t.Parallel()
	inYards(t, []access.User{{Name: "alice", Things: []mapping.Thing{"a"}}}, func(t *testing.T, y *yard) {
		alice := y.as("alice")
		js := stream(t, alice)
		last := uint64(0)
		for _, subject := range []string{"fleets.up.a.shadow.update", "fleets.up.a.events.x", "fleets.up.a.jobs.get", "fleets.up.a.commands.e.response"} {
			ack, err := js.Publish(testContext(t), subject, []byte(`{}`))
			if err != nil || ack.Sequence == 0 {
				t.Errorf("%s: %+v, %v", subject, ack, err)
			}
			m, err := alice.Request(strings.Replace(subject, ".up.", ".req.", 1), []byte(`{}`), patience)
			if err != nil || string(m.Data) != "answer for a" {
				t.Errorf("%s: %v, %v", subject, m, err)
			}
		}
		if err := alice.Publish("fleets.up.a.events.x", []byte(`{}`)); err != nil { // without a PubAck
			t.Fatal(err)
		}
		futures := make([]jetstream.PubAckFuture, 100)
		for i := range futures {
			var err error
			if futures[i], err = js.PublishAsync("fleets.up.a.events.x", []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
		}
		for i, f := range futures {
			select {
			case ack := <-f.Ok():
				if ack.Sequence <= last {
					t.Fatalf("%d: %+v", i, ack)
				}
				last = ack.Sequence
			case err := <-f.Err():
				t.Fatal(err)
			}
		}
		lanes, err := y.up().TakeOver(testContext(t), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(testContext(t))
		defer stop()
		go func() { _ = lanes.Run(ctx) }()
		if ds := lanes.Lane(mapping.Shadow).Take(ctx); len(ds) == 0 || ds[0].Address.Channel != mapping.ShadowReport {
			t.Errorf("%+v", ds)
		}
		found := map[string]bool{}
		inbox, err := alice.SubscribeSync(alice.NewInbox())
		if err != nil {
			t.Fatal(err)
		}
		_ = alice.PublishRequest("$SRV.PING", inbox.Subject, nil)
		_ = alice.PublishRequest("$SRV.INFO.fleetbridge", inbox.Subject, nil)
		for range 2 {
			m, err := inbox.NextMsg(patience)
			if err != nil {
				t.Fatal("discovery:", err)
			}
			var about struct{ Name, Type string }
			_ = json.Unmarshal(m.Data, &about)
			found[about.Name+" "+about.Type] = true
		}
		if len(found) != 2 || alice.LastError() != nil {
			t.Error(found, alice.LastError())
		}
	})
}

func TestUsersServeCommands(t *testing.T) {
	t.Parallel()
	users := []access.User{{Name: "alice", Things: []mapping.Thing{"a"}}, {Name: "carl", Things: []mapping.Thing{"a"}, Allow: []string{access.AllowCommands}}}
	inYards(t, users, func(t *testing.T, y *yard) {
		if _, err := y.call("a", "purge"); !errors.Is(err, bridge.ErrNoHandler) {
			t.Fatalf("nobody serves, but %v", err)
		}
		alice, carl := y.as("alice"), y.as("carl")
		served := make(chan string, 100)
		var services []micro.Service
		for _, nc := range []*nats.Conn{alice, carl} {
			service, err := micro.AddService(nc, micro.Config{Name: "purger", Version: "1.0.0"})
			if err != nil {
				t.Fatal(err)
			}
			services = append(services, service)
			err = service.AddEndpoint("purge", micro.HandlerFunc(func(q micro.Request) {
				served <- nc.Opts.Name
				_ = q.Respond([]byte("done by " + nc.Opts.Name))
			}), micro.WithEndpointSubject("fleets.cmd.a.purge"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := nc.Subscribe("fleets.cmd.a.fail", func(m *nats.Msg) {
				_ = m.RespondMsg(&nats.Msg{Header: nats.Header{micro.ErrorHeader: {"stuck"}, micro.ErrorCodeHeader: {"7"}}})
			}); err != nil {
				t.Fatal(err)
			}
		}
		flush(t, alice, carl)
		by := map[string]int{}
		for range 60 {
			reply, err := y.call("a", "purge")
			if err != nil {
				t.Fatal(err)
			}
			name := <-served
			by[name]++
			if string(reply.Payload) != "done by "+name || len(served) != 0 {
				t.Fatalf("%s, served by %s and %d more", reply.Payload, name, len(served))
			}
		}
		if by["alice"] == 0 || by["carl"] == 0 {
			t.Errorf("the queue group does not span the users: %v", by)
		}
		if reply, err := y.call("a", "fail"); err != nil || reply.Error != "stuck" || reply.ErrorCode != "7" {
			t.Errorf("%+v, %v", reply, err)
		}
		m, err := carl.Request("$SRV.STATS.purger", nil, patience) // its own
		if err != nil || !strings.Contains(string(m.Data), `"purger"`) {
			t.Errorf("%v, %v", m, err)
		}
		for _, s := range services {
			_ = s.Stop()
		}
		flush(t, alice, carl)
		if _, err := y.call("a", "purge"); !errors.Is(err, bridge.ErrNoHandler) {
			t.Errorf("nobody serves any more, but %v", err)
		}
	})
}

func TestUsersReadAndReplay(t *testing.T) {
	t.Parallel()
	inYards(t, []access.User{{Name: "alice", Things: []mapping.Thing{"a", "c"}, Allow: []string{access.AllowRead}}}, func(t *testing.T, y *yard) {
		ctx := testContext(t)
		for i := range 40 {
			y.hint(mapping.Thing([]string{"a", "b", "c", "b"}[i%4]), fmt.Sprint(i))
		}
		alice := y.as("alice")
		js := stream(t, alice)
		if _, err := js.AccountInfo(ctx); err != nil {
			t.Error("account info:", err)
		}
		want := []string{"0", "2", "4", "6", "8", "10", "12", "14", "16", "18", "20", "22", "24", "26", "28", "30", "32", "34", "36", "38"}
		for _, filters := range [][]string{nil, {"fleets.down.>"}, {"fleets.down.*.jobs.notify"}, {"fleets.down.a.>", "fleets.down.c.>"}} {
			if got := ordered(t, js, len(want), filters...); !slices.Equal(got, want) {
				t.Errorf("%v: %v", filters, got)
			}
		}
		if got := ordered(t, js, 10, "fleets.down.c.>"); got[9] != "38" {
			t.Error(got)
		}
		if got := pushed(t, alice, len(want), nats.OrderedConsumer()); !slices.Equal(got, want) {
			t.Errorf("ordered push consumer: %v", got)
		}
		if got := pushed(t, alice, len(want), nats.AckExplicit()); !slices.Equal(got, want) { // found by subject, acknowledged
			t.Errorf("push consumer: %v", got)
		}
		live, err := alice.SubscribeSync("fleets.down.a.>")
		if err != nil {
			t.Fatal(err)
		}
		flush(t, alice)
		y.hint("b", "not for alice")
		y.hint("a", "live")
		if m, err := live.NextMsg(patience); err != nil || string(m.Data) != "live" || m.Subject != "fleets.down.a.jobs.notify" {
			t.Errorf("%v, %v", m, err)
		}
		m, err := alice.Request("$JS.API.DIRECT.GET.FLEETS_DOWN", []byte(`{"seq":2,"next_by_subj":"fleets.down.a.jobs.notify"}`), patience)
		if err != nil || string(m.Data) != "4" || m.Header.Get("Nats-Subject") != "fleets.down.a.jobs.notify" {
			t.Errorf("%v, %v", m, err)
		}
		if alice.LastError() != nil {
			t.Error(alice.LastError())
		}
	})
}

// ordered reads with a pull consumer.
func ordered(t *testing.T, js jetstream.JetStream, n int, filters ...string) (got []string) {
	t.Helper()
	c, err := js.OrderedConsumer(testContext(t), "FLEETS_DOWN", jetstream.OrderedConsumerConfig{FilterSubjects: filters})
	if err != nil {
		t.Fatalf("%v: %v", filters, err)
	}
	it, err := c.Messages()
	if err != nil {
		t.Fatalf("%v: %v", filters, err)
	}
	defer it.Stop()
	for range n {
		m, err := it.Next(jetstream.NextMaxWait(patience))
		if err != nil {
			t.Fatalf("%v: %v", filters, err)
		}
		if !strings.HasPrefix(m.Subject(), "fleets.down.") {
			t.Errorf("on subject %s", m.Subject())
		}
		got = append(got, string(m.Data()))
	}
	return got
}

// pushed reads with a push consumer, as older clients do.
func pushed(t *testing.T, nc *nats.Conn, n int, option nats.SubOpt) (got []string) {
	t.Helper()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	sub, err := js.SubscribeSync("fleets.down.>", option, nats.BindStream("FLEETS_DOWN"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for range n {
		m, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatalf("after %d: %v", len(got), err)
		}
		if !strings.HasPrefix(m.Subject, "fleets.down.") {
			t.Errorf("on subject %s", m.Subject)
		}
		got = append(got, string(m.Data))
		_ = m.Ack()
	}
	return got
}

func TestUsersReadBuckets(t *testing.T) {
	t.Parallel()
	inYards(t, []access.User{{Name: "alice", Things: []mapping.Thing{"a", "c"}}}, func(t *testing.T, y *yard) {
		ctx := testContext(t)
		for _, thing := range []string{"a", "b"} {
			if err := y.store.Shadow().PutNoted(ctx, thing, []byte("shadow of "+thing), nil); err != nil {
				t.Fatal(err)
			}
		}
		y.seen()
		alice := y.as("alice")
		kv, err := stream(t, alice).KeyValue(ctx, "FLEETS_SHADOW")
		if err != nil {
			t.Fatal(err)
		}
		if e, err := kv.Get(ctx, "a"); err != nil || string(e.Value()) != "shadow of a" {
			t.Errorf("%v, %v", e, err)
		}
		if _, err := kv.Get(ctx, "c"); !errors.Is(err, jetstream.ErrKeyNotFound) {
			t.Error(err)
		}
		keys, err := kv.Keys(ctx)
		if err != nil || !slices.Equal(keys, []string{"a"}) {
			t.Errorf("keys %v, %v", keys, err)
		}
		w, err := kv.WatchAll(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"shadow of a", "", "new c"} {
			if want == "new c" {
				for _, thing := range []string{"b", "c"} {
					if err := y.store.Shadow().PutNoted(ctx, thing, []byte("new "+thing), nil); err != nil {
						t.Fatal(err)
					}
				}
			}
			select {
			case e := <-w.Updates():
				if want == "" && e != nil || want != "" && (e == nil || string(e.Value()) != want) {
					t.Fatalf("%v instead of %q", e, want)
				}
			case <-ctx.Done():
				t.Fatalf("no %q", want)
			}
		}
		if alice.LastError() != nil {
			t.Error(alice.LastError())
		}
	})
}

// TestUsersReplayALot: flow control and one pull after the other pass between the accounts.
func TestUsersReplayALot(t *testing.T) {
	t.Parallel()
	inYards(t, []access.User{{Name: "alice", Things: []mapping.Thing{"a"}, Allow: []string{access.AllowRead}}}, func(t *testing.T, y *yard) {
		const n = 1000
		sink, stored := y.store.Down(), make(chan error, n)
		payload := []byte(strings.Repeat("x", 1000))
		for range n {
			m := bridge.Message{Address: mapping.Address{Thing: "a", Channel: mapping.JobsNotify}, Payload: payload}
			if err := sink.Send(testContext(t), m, func(err error) { stored <- err }); err != nil {
				t.Fatal(err)
			}
		}
		for range n {
			if err := <-stored; err != nil {
				t.Fatal(err)
			}
		}
		alice := y.as("alice")
		if got := ordered(t, stream(t, alice), n); len(got) != n {
			t.Errorf("%d by pulls", len(got))
		}
		if got := pushed(t, alice, n, nats.OrderedConsumer()); len(got) != n {
			t.Errorf("%d by push", len(got))
		}
		if alice.LastError() != nil {
			t.Error(alice.LastError())
		}
	})
}
