package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// seldom is how often a cluster is asked.
const seldom = 200 * time.Millisecond

// cluster is three NATS servers that know each other.
type cluster struct {
	t       *testing.T
	options []*server.Options
	servers []*server.Server
}

// quietPorts are free ports that the system gives to nobody who asks for any: the servers of a cluster have to know
// each other's before they start.
func quietPorts(t *testing.T, n int) (out []int) {
	t.Helper()
	for len(out) < n {
		_, text, _ := net.SplitHostPort(fleetsim.Address(t))
		if port, err := strconv.Atoi(text); err != nil {
			t.Fatal(err)
		} else if !slices.Contains(out, port) {
			out = append(out, port)
		}
	}
	return out
}

// newCluster prepares it; no server runs yet.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, servers: make([]*server.Server, 3)}
	var routes []string
	ports := quietPorts(t, 6)
	for i := range 3 {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[3+i]))
	}
	for i := range 3 {
		c.options = append(c.options, &server.Options{
			ServerName: fmt.Sprint("n", i), Host: "127.0.0.1", Port: ports[i], JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: "site", Host: "127.0.0.1", Port: ports[3+i]}, Routes: server.RoutesFromStr(strings.Join(routes, ",")),
		})
	}
	t.Cleanup(func() {
		for i := range 3 {
			c.stop(i)
		}
	})
	return c
}

func (c *cluster) start(i int) {
	c.t.Helper()
	s, err := server.NewServer(c.options[i].Clone())
	if err != nil {
		c.t.Fatal(err)
	}
	s.Start()
	c.servers[i] = s
	if !s.ReadyForConnections(patience) {
		c.t.Fatal("server not ready")
	}
}

func (c *cluster) stop(i int) {
	if s := c.servers[i]; s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		c.servers[i] = nil
	}
}

func (c *cluster) url() string {
	var out []string
	for _, o := range c.options {
		out = append(out, fmt.Sprintf("nats://127.0.0.1:%d", o.Port))
	}
	return strings.Join(out, ",")
}

// opened tries until the store is open.
func (c *cluster) opened(nc *nats.Conn, j *logbook) *Store {
	c.t.Helper()
	var store *Store
	inTime(c.t, "JetStream has a leader", seldom, func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Second)
		defer cancel()
		return wire.HasJetStream(ctx, nc) == nil
	})
	inTime(c.t, "the store is open", seldom, func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), patience/4)
		defer cancel()
		var err error
		store, err = Open(ctx, nc, StoreConfig{Subjects: subjects(c.t), Things: []mapping.Thing{"pump"}, Replicas: 3}, j.log())
		if err != nil && !wire.NotYet(err) {
			c.t.Fatalf("an error that ends the bridge: %v", err)
		}
		return err == nil
	})
	c.t.Cleanup(store.Close)
	return store
}

// A cluster that is starting is awaited, one without a quorum is known to take nothing, and when it is back the
// store works again by itself.
func TestClusterWithoutAQuorum(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := newCluster(t)
	c.start(0) // alone it has no leader
	j := newJournal(t)
	j.forgive("NATS connection lost", "NATS error", "the store does not work", "cannot store", "consumer can't be made")
	nc, err := nats.Connect(c.url(), wire.ConnOptions("test", j.log())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	ctx, cancel := context.WithTimeout(testContext(t), 3*time.Second)
	err = wire.HasJetStream(ctx, nc)
	cancel()
	if err == nil || !wire.NotYet(err) {
		t.Errorf("a cluster that is starting: %v", err)
	}
	c.start(1)
	c.start(2)
	store := c.opened(nc, j)
	if err := store.Check(testContext(t)); err != nil || len(store.Troubles()) != 0 {
		t.Fatalf("%v %q", err, store.Troubles())
	}
	if err := store.Marks().Put(testContext(t), "pump", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if got, err := store.Marks().Get(testContext(t), "pump"); err != nil || string(got) != "1" {
		t.Errorf("read from the leader: %q %v", got, err)
	}
	if _, err := store.Marks().Get(testContext(t), "nobody"); err == nil {
		t.Error("a key that is not there")
	}
	if err := store.Marks().Delete(testContext(t), "pump"); err != nil {
		t.Fatal(err)
	}
	if got, err := store.Marks().Get(testContext(t), "pump"); err == nil {
		t.Errorf("a deleted key: %q", got)
	}

	c.stop(1)
	c.stop(2)
	inTime(t, "the lost quorum is noticed", seldom, func() bool {
		if err := store.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		found := strings.Join(store.Troubles(), "\n")
		return strings.Contains(found, "no leader") || strings.Contains(found, "quorum") || strings.Contains(found, "does not answer")
	})
	c.start(1)
	c.start(2)
	inTime(t, "the store works again", seldom, func() bool {
		return store.Check(t.Context()) == nil && len(store.Troubles()) == 0
	})
}

// What was removed is not waited for.
func TestRemovedStream(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"FLEETS_DOWN", "FLEETS_DEAD", "KV_FLEETS_MARKS", "KV_FLEETS_SHADOW"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.journal.forgive("the store does not work")
			select {
			case <-r.store.Moved(): // what the start has moved
			default:
			}
			if err := r.store.js.DeleteStream(testContext(t), name); err != nil {
				t.Fatal(err)
			}
			select {
			case <-r.store.Moved():
			case <-testContext(t).Done():
				t.Fatal("nobody is told to look")
			}
			if err := r.store.Check(testContext(t)); err != nil {
				t.Fatalf("at first sight: %v", err)
			}
			if got := strings.Join(r.store.Troubles(), "\n"); !strings.Contains(got, name+" is gone") {
				t.Errorf("troubles %q", got)
			}
			if err := r.store.Check(testContext(t)); !errors.Is(err, ErrStreamGone) || !strings.Contains(err.Error(), name) {
				t.Errorf("the second time: %v", err)
			}
		})
	}
}

// A full queue takes nothing, and says so while it is full.
func TestFullQueueIsATrouble(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{}, StoreConfig{Up: 100 << 10})
	r.journal.forgive("the store does not work")
	nc, payload := r.program(), strings.Repeat("x", 5000)
	eventually(t, "the stream refuses more", func() bool {
		return strings.Contains(r.publish(nc, "fleets.up.pump.events.e", payload), "maximum bytes")
	})
	r.spool.Check(testContext(t))
	if got := strings.Join(r.store.Troubles(), "\n"); !strings.Contains(got, "FLEETS_UP_TELEMETRY: it is full") || !strings.Contains(got, "nats.up.max_bytes") {
		t.Errorf("troubles %q", got)
	}
	if answer := r.publish(nc, "fleets.up.pump.jobs.get", payload); strings.Contains(answer, "error") {
		t.Errorf("the other class: %s", answer)
	}
	q, _ := r.run("pump", mapping.Events)
	for queuedOf(t, r, "pump") > 1 {
		next(t, q).Settle()
	}
	r.spool.Check(testContext(t))
	if len(r.store.Troubles()) != 0 {
		t.Errorf("with room: %q", r.store.Troubles())
	}
	if answer := r.publish(nc, "fleets.up.pump.events.e", payload); strings.Contains(answer, "error") {
		t.Error(answer)
	}
}
