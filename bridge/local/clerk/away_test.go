package clerk

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// A right that is taken away while NATS is away is gone from the user's consumers when NATS is back, and the user is answered.
func TestUsersChangeWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Shutdown)
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server is not ready")
	}
	link, err := fleetsim.NewLink(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = link.Close() })
	nc, err := nats.Connect("nats://"+link.Addr(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	direct, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(direct.Close)
	js, err := wire.JetStream(direct)
	if err != nil {
		t.Fatal(err)
	}
	subjects, err := mapping.NewSubjects("fleets")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range access.Readables(subjects) {
		if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: r.Stream, Subjects: []string{r.Of("*")}}); err != nil {
			t.Fatal(err)
		}
	}
	name := "alice" + ConsumerMark + "SECRET" + ConsumerMark + "d"
	if _, err := js.CreateConsumer(ctx, "FLEETS_DOWN", jetstream.ConsumerConfig{Durable: name, FilterSubjects: []string{"fleets.down.a.>", "fleets.down.b.>"}, AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	log := fleetsim.Log(t, "fails for now and is tried again: to answer users after a change", "a user's consumer was not removed")
	alice := func(things ...mapping.Thing) []access.User {
		return []access.User{{Name: "alice", Password: "secret", Things: things}}
	}
	c, err := Serve(nc, subjects, alice("a", "b"), &bridge.Retries{Log: log}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)

	lost := nc.StatusChanged(nats.RECONNECTING)
	link.Cut()
	select {
	case <-lost:
	case <-ctx.Done():
		t.Fatal("the connection is still there")
	}
	leave, err := c.SetUsers(alice("a"), []mapping.Thing{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	leave()
	link.Restore()
	await := func(what string, is func() bool) {
		t.Helper()
		for !is() {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				t.Fatal("not in time: " + what)
			}
		}
	}
	await("her consumer reads what is hers, no more", func() bool {
		consumer, err := js.Consumer(ctx, "FLEETS_DOWN", name)
		if err != nil {
			t.Fatal(err)
		}
		config := consumer.CachedInfo().Config
		filters := append(config.FilterSubjects, config.FilterSubject)
		return slices.Contains(filters, "fleets.down.a.>") && !slices.Contains(filters, "fleets.down.b.>")
	})
	await("alice is answered", func() bool { return c.Known("alice", "FLEETS_DOWN")["d"] != "" })
}
