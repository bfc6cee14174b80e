// Package natstest has what tests of the NATS edge share: servers as somebody else runs them, and bounds of time.
package natstest

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"fleetbridge/mapping"
)

// Patience is how long a test waits for what should happen at once; a machine that is busy besides needs some of it.
const Patience = 2 * time.Minute

// Context ends with the test, and some time before the test is given up.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patience)
	t.Cleanup(cancel)
	return ctx
}

// Subjects are those of the prefix fleets.
func Subjects(t testing.TB) mapping.Subjects {
	s, err := mapping.NewSubjects("fleets")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Server is a NATS server with JetStream that nobody has set up for the bridge.
func Server(t testing.TB) *server.Server {
	t.Helper()
	return Start(t, &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir()})
}

// Start starts a server, which ends with the test.
func Start(t testing.TB, o *server.Options) *server.Server {
	t.Helper()
	o.NoSigs, o.NoLog = true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(Patience) {
		t.Fatal("server not ready")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// Connect is a connection to a Server of its own.
func Connect(t testing.TB) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(Server(t).ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}
