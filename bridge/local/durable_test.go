package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/clerk"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/mapping"
)

// attackDurable: Bob has a durable consumer under a name that everybody knows, with messages waiting. Whoever uses the
// same name, or JetStream's name for it, has another consumer or none.
func (y *yard) attackDurable(t *testing.T) {
	t.Helper()
	y.hint("b", "first for b")
	y.hint("b", "second for b")
	ctx := testContext(t)
	bob := stream(t, y.as("bob"))
	theirs, err := bob.CreateOrUpdateConsumer(ctx, "FLEETS_DOWN", jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	before, err := theirs.Info(ctx)
	if err != nil || before.NumPending < 2 {
		t.Fatalf("%+v, %v", before, err)
	}
	names := realNames(t, y.store.down)
	real := names[slices.IndexFunc(names, func(n string) bool { return strings.HasSuffix(n, "=worker") })]
	for _, user := range []string{"alice", "read"} {
		nc := y.as(user, nats.CustomInboxPrefix(strings.TrimSuffix(nats.InboxPrefix, ".")))
		for _, name := range []string{"worker", real, strings.TrimPrefix(real, "bob="), "*", ">"} {
			for _, reply := range []string{nc.NewRespInbox(), "_INBOX_bob.x", "fleets.up.b.events.x", "_fleets.deliver.bob._INBOX.x", "_R_.x", "$JS.ACK.x"} {
				_ = nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.FLEETS_DOWN."+name, reply, []byte(`{"batch":10}`))
				nc = y.again(nc, user)
			}
			for _, verb := range []string{"CONSUMER.DELETE", "CONSUMER.INFO", "CONSUMER.PAUSE", "CONSUMER.UNPIN", "CONSUMER.LEADER.STEPDOWN"} {
				m, err := nc.Request("$JS.API."+verb+".FLEETS_DOWN."+name, nil, patience)
				if err != nil || !strings.Contains(string(m.Data), `"error"`) {
					t.Errorf("%s: %s %s: %v, %v", user, verb, name, m, err)
				}
			}
		}
		js := stream(t, nc)
		mine, err := js.CreateOrUpdateConsumer(ctx, "FLEETS_DOWN", jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: "fleets.down.>"})
		if err != nil {
			t.Fatal(err)
		}
		batch, err := mine.FetchNoWait(100)
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			if !strings.HasPrefix(m.Subject(), "fleets.down.a.") {
				t.Errorf("%s got %s", user, m.Subject())
			}
			_ = m.Ack()
		}
		if err := js.DeleteConsumer(ctx, "FLEETS_DOWN", "worker"); err != nil {
			t.Error(err)
		}
		s, err := js.Stream(ctx, "FLEETS_DOWN")
		if err != nil {
			t.Fatal(err)
		}
		all := realNames(t, y.store.down)
		for _, name := range realNames(t, s) { // the user's own from before
			if !slices.ContainsFunc(all, func(real string) bool { return clerk.ConsumerOwner(real) == user && clerk.ShownName(real) == name }) {
				t.Errorf("%s sees %s", user, name)
			}
		}
	}
	after, err := theirs.Info(ctx)
	if err != nil || after.NumPending != before.NumPending || after.Delivered.Consumer != before.Delivered.Consumer || after.NumWaiting != 0 {
		t.Errorf("bob's consumer: %+v, %v; before %+v", after, err, before)
	}
	if after.Name != "worker" || after.Config.Durable != "worker" || len(after.Config.Metadata[clerk.MetaFilters]) > 0 {
		t.Errorf("bob sees %+v", after.Config)
	}
}

// again is the connection, or a new one if the server ended it.
func (y *yard) again(nc *nats.Conn, user string) *nats.Conn {
	if nc.FlushTimeout(patience) == nil {
		return nc
	}
	nc.Close()
	return y.as(user, nats.CustomInboxPrefix(strings.TrimSuffix(nats.InboxPrefix, ".")))
}

// TestUsersWithStockClients: no client needs an inbox prefix.
func TestUsersWithStockClients(t *testing.T) {
	t.Parallel()
	inYards(t, []access.User{{Name: "alice", Things: []mapping.Thing{"a"}}}, func(t *testing.T, y *yard) {
		ctx := testContext(t)
		nc := y.as("alice", nats.CustomInboxPrefix(strings.TrimSuffix(nats.InboxPrefix, ".")))
		js := stream(t, nc)
		if m, err := nc.Request("fleets.req.a.jobs.get", nil, patience); err != nil || string(m.Data) != "answer for a" {
			t.Errorf("%v, %v", m, err)
		}
		if _, err := js.Publish(ctx, "fleets.up.a.events.x", []byte(`{}`)); err != nil {
			t.Error(err)
		}
		for i := range 3 {
			y.hint("a", fmt.Sprint(i))
			y.hint("b", "not for alice")
		}
		want := []string{"0", "1", "2"}
		if got := ordered(t, js, 3); !slices.Equal(got, want) {
			t.Error(got)
		}
		for name, option := range map[string]nats.SubOpt{"ordered": nats.OrderedConsumer(), "ephemeral": nats.AckExplicit(), "durable": nats.Durable("pushed")} {
			if got := pushed(t, nc, 3, option); !slices.Equal(got, want) {
				t.Errorf("%s: %v", name, got)
			}
		}
		if err := y.store.Shadow().PutNoted(ctx, "a", []byte("shadow"), nil); err != nil {
			t.Fatal(err)
		}
		y.seen()
		kv, err := js.KeyValue(ctx, "FLEETS_SHADOW")
		if err != nil {
			t.Fatal(err)
		}
		e, err := kv.Get(ctx, "a")
		if err != nil || string(e.Value()) != "shadow" {
			t.Fatalf("%v, %v", e, err)
		}
		if e, err := kv.GetRevision(ctx, "a", e.Revision()); err != nil || string(e.Value()) != "shadow" {
			t.Errorf("%v, %v", e, err)
		}
		bucket, err := js.Stream(ctx, "KV_FLEETS_SHADOW")
		if err != nil {
			t.Fatal(err)
		}
		bucket.CachedInfo().Config.AllowDirect = false // as clients that ask the stream itself
		if m, err := bucket.GetLastMsgForSubject(ctx, "$KV.FLEETS_SHADOW.a"); err != nil || string(m.Data) != "shadow" {
			t.Errorf("%v, %v", m, err)
		}
		if _, err := bucket.GetLastMsgForSubject(ctx, "$KV.FLEETS_SHADOW.b"); !errors.Is(err, jetstream.ErrMsgNotFound) {
			t.Error(err)
		}
		names := js.StreamNames(ctx)
		n := 0
		for range names.Name() {
			n++
		}
		if n != 3 || names.Err() != nil {
			t.Errorf("%d streams, %v", n, names.Err())
		}
		if name, err := js.StreamNameBySubject(ctx, "fleets.down.a.shadow.update.delta"); err != nil || name != "FLEETS_DOWN" {
			t.Errorf("%s, %v", name, err)
		}
		if nc.LastError() != nil {
			t.Error(nc.LastError())
		}
	})
}

// TestUsersAreRefusedAtOnce: nobody waits for what can't be had, and hears why.
func TestUsersAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	inYards(t, []access.User{{Name: "alice", Things: []mapping.Thing{"a"}}, {Name: "report", Things: []mapping.Thing{"a"}, Allow: []string{access.AllowReport}}}, func(t *testing.T, y *yard) {
		ctx := testContext(t)
		for _, user := range []string{"alice", "report"} {
			nc := y.as(user)
			js := stream(t, nc)
			_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "mine"})
			_, kvErr := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "mine"})
			_, upErr := js.Stream(ctx, "FLEETS_UP_CONTROL")
			for _, err := range []error{err, kvErr, upErr, js.DeleteStream(ctx, "FLEETS_DOWN")} {
				var api *jetstream.APIError
				if !errors.As(err, &api) || api.Code != 403 || !strings.Contains(api.Description, "local.users") {
					t.Errorf("%s: %v", user, err)
				}
			}
			if info, err := js.AccountInfo(ctx); err != nil || info.Limits.MaxConsumers != clerk.MaxConsumers+clerk.MaxDurables {
				t.Errorf("%s: %+v, %v", user, info, err)
			}
			for _, subject := range []string{"fleets.req.b.jobs.get", "fleets.req.other.shadow.get", "fleets.req.b"} {
				m, err := nc.RequestWithContext(ctx, subject, nil)
				if err != nil || m.Header.Get("Nats-Service-Error-Code") != "403" || !strings.Contains(string(m.Data), "local.users") {
					t.Errorf("%s: %s: %v, %v", user, subject, m, err)
				}
			}
		}
		m, err := y.as("report").RequestWithContext(ctx, "fleets.req.a.jobs.get", nil)
		if err != nil || m.Header.Get("Nats-Service-Error-Code") != "403" {
			t.Errorf("%v, %v", m, err)
		}
	})
}

// TestPublishIsRefusedAtOnce: who waits for a PubAck that a login forbids hears so, in whatever inbox.
func TestPublishIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	users := []access.User{{Name: "alice", Password: "secret", Things: []mapping.Thing{"a"}}, {Name: "report", Password: "secret", Things: []mapping.Thing{"a"}, Allow: []string{access.AllowReport}}}
	r := newRigWith(t, embedded.Config{Users: users}, StoreConfig{Things: []mapping.Thing{"a", "b"}})
	y := (&yard{rig: r, url: r.server.URL()}).serve(users)
	ctx := testContext(t)
	for user, subjects := range map[string][]string{
		"alice":  {"fleets.up.b.events.x", "fleets.up.nobody.events.x"},
		"report": {"fleets.up.a.events.x", "fleets.up.a.nothing", "fleets.up.b.shadow.update", "fleets.up.a"},
	} {
		for _, inbox := range []string{"_INBOX", "_INBOX_" + user} {
			js := stream(t, y.as(user, nats.CustomInboxPrefix(inbox)))
			for _, subject := range subjects {
				_, err := js.Publish(ctx, subject, nil)
				var api *jetstream.APIError
				if !errors.As(err, &api) || api.Code != 403 || !strings.Contains(api.Description, "local.users") {
					t.Errorf("%s, %s: %v", user, subject, err)
				}
			}
			if _, err := js.Publish(ctx, "fleets.up.a.shadow.update", []byte("{}")); err != nil {
				t.Errorf("%s: %v", user, err)
			}
		}
	}
	// The subscription to the answer may come together with the publish, and behind others.
	c := rawLogin(t, r.server.URL(), "alice")
	together := &strings.Builder{}
	for i := range 100 {
		fmt.Fprintf(together, "SUB _INBOX.%d.* %d\r\n", i, 100+i)
	}
	c.write("%sSUB _INBOX.late 9\r\nPUB fleets.up.b.events.x _INBOX.late 0\r\n\r\n", together)
	for line := ""; !strings.HasPrefix(line, "MSG _INBOX.late 9 "); {
		var err error
		if line, err = c.in.ReadString('\n'); err != nil {
			t.Fatal("no answer to a publish that came with the subscription to the answer: ", err)
		}
	}
	// A forged reply subject reaches nobody else's inbox.
	other := y.as("report")
	heard, err := other.SubscribeSync("_INBOX_report.x")
	if err != nil || other.Flush() != nil {
		t.Fatal(err)
	}
	nc := y.as("alice")
	for _, reply := range []string{"_INBOX_report.x", "_fleets.deliver.report._INBOX_report.x", "fleets.down.b.jobs.notify"} {
		if err := nc.PublishRequest("fleets.up.b.events.x", reply, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream(t, nc).Publish(ctx, "fleets.up.b.events.x", nil); err == nil || other.Flush() != nil { // all of them are answered
		t.Fatal(err)
	}
	if n, _, err := heard.Pending(); n != 0 || err != nil {
		t.Errorf("%d answers reach another user, %v", n, err)
	}
}

// TestDurableConsumers: they are the user's own by name, go on after a restart, are bounded, read what the user may read
// now, and end with the user.
func TestDurableConsumers(t *testing.T) {
	t.Parallel()
	users := []access.User{{Name: "alice", Password: "secret", Things: []mapping.Thing{"a", "c"}}, {Name: "bob", Password: "secret", Things: []mapping.Thing{"b"}}}
	r := newRigWith(t, embedded.Config{Users: users}, StoreConfig{Things: []mapping.Thing{"a", "b", "c"}})
	y := (&yard{rig: r, url: r.server.URL()}).serve(users)
	ctx := testContext(t)
	for _, thing := range []mapping.Thing{"a", "b", "c"} {
		y.hint(thing, "first for "+string(thing))
	}
	take := func(user string, n int) (got []string) {
		t.Helper()
		nc := y.as(user)
		defer nc.Close()
		old, err := nc.JetStream()
		if err != nil {
			t.Fatal(err)
		}
		sub, err := old.PullSubscribe("", "worker", nats.BindStream("FLEETS_DOWN"))
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			batch, err := sub.Fetch(1, nats.MaxWait(patience))
			if err != nil {
				t.Fatalf("%s after %v: %v", user, got, err)
			}
			got = append(got, string(batch[0].Data))
			if err := batch[0].AckSync(); err != nil {
				t.Fatal(err)
			}
		}
		info, err := sub.ConsumerInfo()
		if err != nil || info.Name != "worker" || info.NumPending != 0 || info.NumAckPending != 0 {
			t.Errorf("%s: %+v, %v", user, info, err)
		}
		return got
	}
	if got := take("alice", 2); !slices.Equal(got, []string{"first for a", "first for c"}) {
		t.Error(got)
	}
	if got := take("bob", 1); !slices.Equal(got, []string{"first for b"}) {
		t.Error(got)
	}
	restart := func(now []access.User) {
		t.Helper()
		y.closeClerk()
		r.stop()
		r.journal.forgive("NATS connection lost")
		r.start(embedded.Config{Users: now}, StoreConfig{Things: []mapping.Thing{"a", "b", "c"}})
		y.url = r.server.URL()
		y.serve(now)
	}
	restart(users)
	for _, thing := range []mapping.Thing{"a", "b", "c"} {
		y.hint(thing, "second for "+string(thing))
	}
	if got := take("alice", 2); !slices.Equal(got, []string{"second for a", "second for c"}) {
		t.Error(got)
	}
	// Alice has another Thing, Bob is gone.
	restart([]access.User{{Name: "alice", Password: "secret", Things: []mapping.Thing{"a", "b"}}})
	for _, thing := range []mapping.Thing{"a", "b", "c"} {
		y.hint(thing, "third for "+string(thing))
	}
	if got := take("alice", 2); !slices.Equal(got, []string{"third for a", "third for b"}) {
		t.Error(got)
	}
	if names := realNames(t, r.store.down); len(names) != 1 || clerk.ConsumerOwner(names[0]) != "alice" {
		t.Error(names)
	}
	js := stream(t, y.as("alice"))
	for i := range clerk.MaxDurables {
		_, err := js.CreateConsumer(ctx, "KV_FLEETS_SHADOW", jetstream.ConsumerConfig{Durable: fmt.Sprint("d", i)})
		if want := i < clerk.MaxDurables-1; (err == nil) != want {
			t.Errorf("%d: %v", i, err)
		}
		if err != nil && !strings.Contains(err.Error(), "delete one") {
			t.Error(err)
		}
	}
	if err := js.DeleteConsumer(ctx, "KV_FLEETS_SHADOW", "d3"); err != nil {
		t.Error(err)
	}
	c, err := js.CreateConsumer(ctx, "FLEETS_DOWN", jetstream.ConsumerConfig{Durable: "one-more"})
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteConsumer(ctx, "FLEETS_DOWN", "one-more"); err != nil {
		t.Error(err)
	}
	if _, err := c.Fetch(1, jetstream.FetchMaxWait(patience)); err != nil && !errors.Is(err, nats.ErrNoResponders) {
		t.Error(err)
	}
	if _, err := js.Consumer(ctx, "FLEETS_DOWN", "one-more"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Error(err)
	}
}

// TestPullOfNoConsumer: a consumer that went away by itself is missed at once.
func TestPullOfNoConsumer(t *testing.T) {
	t.Parallel()
	inYards(t, []access.User{{Name: "alice", Things: []mapping.Thing{"a"}}}, func(t *testing.T, y *yard) {
		ctx := testContext(t)
		js := stream(t, y.as("alice"))
		c, err := js.CreateConsumer(ctx, "FLEETS_DOWN", jetstream.ConsumerConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if err := y.store.down.DeleteConsumer(ctx, realNames(t, y.store.down)[0]); err != nil { // as the server does
			t.Fatal(err)
		}
		eventually(t, "the clerk knows", func() bool { return len(y.clerk.Known("alice", "FLEETS_DOWN")) == 0 })
		within, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		batch, err := c.Fetch(1, jetstream.FetchContext(within))
		if err != nil {
			t.Fatal(err)
		}
		for range batch.Messages() {
			t.Error("a message")
		}
		if !errors.Is(batch.Error(), nats.ErrNoResponders) {
			t.Error(batch.Error())
		}
	})
}
