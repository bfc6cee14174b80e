package doctor_test

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
	"fleetbridge/internal/doctor"
)

// startNATS starts a server as somebody else would.
func startNATS(t *testing.T, jetStream bool) gateway.NATSURL {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: jetStream, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server did not start")
	}
	return gateway.NATSURL(s.ClientURL())
}

func TestExternalNATS(t *testing.T) {
	c := open(t)
	c.cfg.NATS.URL = startNATS(t, true)
	lines, healthy := c.examine(doctor.Options{})
	if !healthy {
		t.Error(strings.Join(lines, "\n"))
	}
	has(t, lines, doctor.OK, "bridge", "not running")
	has(t, lines, doctor.OK, "connect", "takes the login")
	has(t, lines, doctor.OK, "queues", "FLEETS_DOWN", "not there yet")
	has(t, lines, doctor.OK, "jetstream", "enabled")
	has(t, lines, doctor.Skip, "fsync", "nats.url")

	// A bridge that can be seen by its services only.
	runFor(t, c.cfg, func(ctx context.Context) {
		c.settled(ctx)
		lines, _ := c.examine(doctor.Options{})
		has(t, lines, doctor.OK, "bridge", "its services answer on nats.url")
		has(t, lines, doctor.OK, "connect", "skipped: fleetbridge is running")
		if !c.sim.Broker().Connected("pump-07") {
			t.Error("the bridge lost its connection")
		}
	})
}

func TestExternalNATSThatWillNotDo(t *testing.T) {
	c := open(t)
	c.cfg.NATS.URL = startNATS(t, false)
	lines, _ := c.examine(doctor.Options{Stay: true})
	has(t, lines, doctor.OK, "nats")
	has(t, lines, doctor.Fail, "jetstream", "is not enabled", "→ start it with -js")

	c.cfg.NATS.URL = gateway.NATSURL("nats://" + fleetsim.Address(t))
	lines, _ = c.examine(doctor.Options{})
	has(t, lines, doctor.Warn, "bridge", "can't tell")
	has(t, lines, doctor.Skip, "connect", "a second connection would end the first")
	has(t, lines, doctor.Fail, "nats", "→ start the NATS server")
	if n := len(c.sim.Received()); n > 0 {
		t.Errorf("%d publishes", n)
	}
}
