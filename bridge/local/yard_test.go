package local

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"golang.org/x/crypto/bcrypt"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/bus"
	"fleetbridge/bridge/local/clerk"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/services"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// yard is the bridge's NATS side with users: on the embedded server, or on an external one that runs with
// what `fleetbridge acl` prints.
type yard struct {
	*rig
	url     string
	service *services.Service
	clerk   *clerk.Clerk
	other   atomic.Pointer[slowCloud] // answers instead of the yard, if there is one
}

// inYards runs a test in both.
func inYards(t *testing.T, users []access.User, f func(*testing.T, *yard)) {
	hash, err := access.User{Password: "secret"}.Hash(bcrypt.MinCost) // also for speed: the server's own hashes are slow to check
	if err != nil {
		t.Fatal(err)
	}
	for i := range users {
		users[i].Password = hash
	}
	things := []mapping.Thing{"a", "b", "c"}
	t.Run("embedded", func(t *testing.T) {
		r := newRigWith(t, embedded.Config{Users: users}, StoreConfig{Things: things})
		f(t, (&yard{rig: r, url: r.server.URL()}).serve(users))
	})
	t.Run("external", func(t *testing.T) {
		r := &rig{t: t, dir: t.TempDir(), journal: newJournal(t), subjects: subjects(t)}
		s := externalServer(t, access.ACL{URL: "nats://bridge:pass@ignored:4222", Users: users, Subjects: r.subjects, Cost: bcrypt.MinCost})
		var err error
		r.nc, err = wire.Dial(testContext(t), wire.DialConfig{URL: strings.Replace(s.ClientURL(), "//", "//bridge:pass@", 1), Log: r.journal.log()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.nc.Close)
		r.store = r.open(r.nc, StoreConfig{Things: things})
		f(t, (&yard{rig: r, url: s.ClientURL()}).serve(users))
	})
}

// externalServer starts a server with the configuration that is printed.
func externalServer(t *testing.T, acl access.ACL) *server.Server {
	t.Helper()
	var text strings.Builder
	if err := acl.Print(&text); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "server.conf")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatalf("%v\n%s", err, text.String())
	}
	opts.Host, opts.Port, opts.NoSigs, opts.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	opts.JetStream, opts.StoreDir = true, t.TempDir()
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("server not ready")
	}
	return s
}

// serve answers requests with the subject that they came on.
func (y *yard) serve(users []access.User) *yard {
	y.t.Helper()
	y.journal.forgive(" - cid:", "refused what a program published", "could not decode headers") // refusals that tests ask for
	clerk, err := clerk.Serve(y.nc, y.subjects, users, nil, y.journal.log())
	if err != nil {
		y.t.Fatal(err)
	}
	y.clerk = clerk
	y.t.Cleanup(clerk.Close)
	bus, err := bus.Serve(y.nc, y.subjects, y.journal.log())
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(bus.Close)
	s, err := services.Serve(y.nc, handle(func(ctx context.Context, r bridge.Request) (bridge.Response, error) {
		if other := y.other.Load(); other != nil {
			return other.Handle(ctx, r)
		}
		return bridge.Response{Payload: []byte("answer for " + string(r.Thing))}, nil
	}), services.Config{Subjects: y.subjects, Version: "1.0.0", Log: y.journal.log()})
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(func() { _ = s.Close() })
	y.service = s
	return y
}

// closeClerk is what a stop does before the store.
func (y *yard) closeClerk() {
	_ = y.service.Close()
	y.clerk.Close()
}

// as connects as a user.
func (y *yard) as(name string, options ...nats.Option) *nats.Conn {
	y.t.Helper()
	nc, err := nats.Connect(y.url, append([]nats.Option{
		nats.Timeout(patience), nats.Name(name), nats.UserInfo(name, "secret"), nats.CustomInboxPrefix("_INBOX_" + name),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, options...)...)
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(nc.Close)
	return nc
}

func stream(t *testing.T, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// hint brings a message from the cloud.
func (y *yard) hint(thing mapping.Thing, payload string) {
	y.t.Helper()
	down(y.t, y.rig, bridge.Message{Address: mapping.Address{Thing: thing, Channel: mapping.JobsNotify}, Payload: []byte(payload)})
}

// call runs a command.
func (y *yard) call(thing mapping.Thing, action string) (bridge.Reply, error) {
	ctx, cancel := context.WithTimeout(y.t.Context(), patience)
	defer cancel()
	return call(ctx, y.rig, bridge.Call{Thing: thing, Action: action, Execution: "e"})
}

// call runs a command as the bridge does.
func call(ctx context.Context, r *rig, c bridge.Call) (bridge.Reply, error) {
	l, err := services.NewHandlers(r.nc, r.subjects, r.server.NATS(), nil).Listen(c.Thing, nuid.Next())
	if err != nil {
		return bridge.Reply{}, err
	}
	defer l.Close()
	return l.Call(ctx, c)
}

func flush(t *testing.T, conns ...*nats.Conn) {
	t.Helper()
	for _, nc := range conns {
		if err := nc.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
	}
}
