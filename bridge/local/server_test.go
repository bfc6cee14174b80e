package local

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

func TestProgramsConnectAfterListenOnly(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	s, err := embedded.Start(embedded.Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), Log: j.log(), Subjects: subjects(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	if s.URL() != "" {
		t.Errorf("URL before Listen: %q", s.URL())
	}
	nc, err := s.Connect("fleetbridge")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := wire.HasJetStream(testContext(t), nc); err != nil {
		t.Error(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	program, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	program.Close()
}

func TestStoreDirBelongsToOneServer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, err := embedded.Start(embedded.Config{Listen: "127.0.0.1:0", StoreDir: r.dir, Log: r.journal.log()})
	if err == nil || !strings.Contains(err.Error(), "another fleetbridge is using it") || !strings.Contains(err.Error(), r.dir) {
		t.Errorf("error %v", err)
	}
	r.stop()
	r.start(embedded.Config{}, StoreConfig{})
}

func TestListenOnTakenPort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	j := newJournal(t)
	s, err := embedded.Start(embedded.Config{Listen: taken.Addr().String(), StoreDir: t.TempDir(), Log: j.log()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	err = s.Listen()
	if err == nil || !strings.Contains(err.Error(), "nats.embedded.listen") || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("error %v", err)
	}
}

func TestListenAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ listen, want string }{
		{"4222", "no host:port"},
		{"127.0.0.1", "no host:port"},
		{"127.0.0.1:nats", "no port"},
		{"127.0.0.1:70000", "no port"},
		{"127.0.0.1:-1", "no port"},
	} {
		_, err := embedded.Start(embedded.Config{Listen: c.listen, StoreDir: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.listen) {
			t.Errorf("%s: error %v", c.listen, err)
		}
	}
}

func TestStoreDirThatCannotBe(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Start(embedded.Config{Listen: "127.0.0.1:0", StoreDir: file}); err == nil || !strings.Contains(err.Error(), "store directory") {
		t.Errorf("error %v", err)
	}
}

func TestDial(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	nc, err := wire.Dial(testContext(t), wire.DialConfig{URL: r.server.URL(), Log: r.journal.log()})
	if err != nil {
		t.Fatal(err)
	}
	if nc.Opts.Name != "fleetbridge" || nc.Opts.MaxReconnect != -1 {
		t.Errorf("name %q, reconnects %d", nc.Opts.Name, nc.Opts.MaxReconnect)
	}
	nc.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := wire.Dial(ctx, wire.DialConfig{URL: "nats://127.0.0.1:1", Log: r.journal.log()}); err == nil || !strings.Contains(err.Error(), "nats.url nats://127.0.0.1:1") {
		t.Errorf("error %v", err)
	}
}

func TestDialWithoutJetStream(t *testing.T) {
	t.Parallel()
	url := plainServer(t, false)
	j := newJournal(t)
	_, err := wire.Dial(testContext(t), wire.DialConfig{URL: url, Log: j.log()})
	if err == nil || !strings.Contains(err.Error(), "JetStream is not enabled") {
		t.Errorf("error %v", err)
	}
}

func TestRestartKeepsWhatIsStored(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{}, StoreConfig{})
	r.publish(r.program(), "fleets.up.pump.events.started", `{}`)
	r.stop()
	r.start(embedded.Config{}, StoreConfig{})
	queued, err := r.up().Queued(testContext(t))
	if err != nil || queued[mapping.Thing("pump")] != 1 {
		t.Errorf("queued %v, %v", queued, err)
	}
}
