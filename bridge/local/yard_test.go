package local

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"golang.org/x/crypto/bcrypt"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// yard is the bridge's NATS side with users: on the embedded server, or on an external one that runs with
// what `fleetbridge acl` prints.
type yard struct {
	*rig
	url     string
	service *Service
}

// inYards runs a test in both.
func inYards(t *testing.T, users []User, f func(*testing.T, *yard)) {
	hash, err := User{Password: "secret"}.hash(bcrypt.MinCost) // also for speed: the server's own hashes are slow to check
	if err != nil {
		t.Fatal(err)
	}
	for i := range users {
		users[i].Password = hash
	}
	things := []mapping.Thing{"a", "b", "c"}
	t.Run("embedded", func(t *testing.T) {
		r := newRigWith(t, ServerConfig{Users: users}, StoreConfig{Things: things})
		f(t, (&yard{rig: r, url: r.server.URL()}).serve(users))
	})
	t.Run("external", func(t *testing.T) {
		r := &rig{t: t, dir: t.TempDir(), journal: newJournal(t), subjects: subjects(t)}
		s := externalServer(t, ACL{URL: "nats://bridge:pass@ignored:4222", Users: users, Subjects: r.subjects, Cost: bcrypt.MinCost})
		var err error
		r.nc, err = Dial(testContext(t), DialConfig{URL: strings.Replace(s.ClientURL(), "//", "//bridge:pass@", 1), Log: r.journal.log()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.nc.Close)
		r.store = r.open(r.nc, StoreConfig{Things: things})
		f(t, (&yard{rig: r, url: s.ClientURL()}).serve(users))
	})
}

// externalServer starts a server with the configuration that is printed.
func externalServer(t *testing.T, acl ACL) *server.Server {
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
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("server not ready")
	}
	return s
}

// serve answers requests with the subject that they came on.
func (y *yard) serve(users []User) *yard {
	y.t.Helper()
	y.journal.forgive(" - cid:", "more about clients") // refusals that tests ask for
	clerk, err := ServeUsers(y.nc, y.subjects, users, y.journal.log())
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(clerk.Close)
	s, err := Serve(y.nc, y.subjects, handle(func(_ context.Context, r bridge.Request) (bridge.Response, error) {
		return bridge.Response{Payload: []byte("answer for " + string(r.Thing))}, nil
	}), "1.0.0")
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(func() { _ = s.Close() })
	y.service = s
	return y
}

// as connects as a user.
func (y *yard) as(name string, options ...nats.Option) *nats.Conn {
	y.t.Helper()
	nc, err := nats.Connect(y.url, append([]nats.Option{
		nats.Timeout(20 * time.Second), nats.Name(name), nats.UserInfo(name, "secret"), nats.CustomInboxPrefix("_INBOX_" + name),
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
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(10*time.Second))
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
	ctx, cancel := context.WithTimeout(y.t.Context(), 10*time.Second)
	defer cancel()
	return call(ctx, y.rig, bridge.Call{Thing: thing, Action: action, Execution: "e"})
}

// call runs a command as the bridge does.
func call(ctx context.Context, r *rig, c bridge.Call) (bridge.Reply, error) {
	l, err := NewHandlers(r.nc, r.subjects).Listen(c.Thing, nuid.Next())
	if err != nil {
		return bridge.Reply{}, err
	}
	defer l.Close()
	return l.Call(ctx, c)
}

func flush(t *testing.T, conns ...*nats.Conn) {
	t.Helper()
	for _, nc := range conns {
		if err := nc.FlushTimeout(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
}
