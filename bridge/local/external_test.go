package local

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/crypto/bcrypt"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/natstest"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// plainServer is somebody else's NATS server.
func plainServer(t *testing.T, jetStream bool) (url string) {
	t.Helper()
	s := startPlain(t, server.RANDOM_PORT, t.TempDir(), jetStream)
	return s.ClientURL()
}

func startPlain(t *testing.T, port int, dir string, jetStream bool) *server.Server {
	t.Helper()
	return natstest.Start(t, &server.Options{Host: "127.0.0.1", Port: port, JetStream: jetStream, StoreDir: dir})
}

// breakable is an external server behind a proxy whose connections can be cut in the middle.
type breakable struct {
	t      *testing.T
	server *server.Server
	proxy  net.Listener

	mu    sync.Mutex
	conns []net.Conn
}

func newBreakable(t *testing.T) *breakable {
	t.Helper()
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &breakable{t: t, server: startPlain(t, server.RANDOM_PORT, t.TempDir(), true), proxy: proxy}
	go b.accept()
	t.Cleanup(func() { _ = proxy.Close(); b.cut() })
	return b
}

func (b *breakable) accept() {
	for {
		in, err := b.proxy.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", b.server.Addr().String())
		if err != nil {
			_ = in.Close()
			continue
		}
		b.mu.Lock()
		b.conns = append(b.conns, in, out)
		b.mu.Unlock()
		go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
	}
}

func (b *breakable) url() string { return "nats://" + b.proxy.Addr().String() }

// cut ends all connections; what is in the buffers is lost.
func (b *breakable) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
	b.conns = nil
}

// js reaches the server past the proxy.
func (b *breakable) js(t *testing.T) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(b.server.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// TestConfined: only the accounts that are printed for the users keep them apart.
func TestConfined(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if access.Confined(testContext(t), r.nc) {
		t.Error("a server without accounts keeps users apart")
	}
	s := externalServer(t, access.ACL{URL: "nats://bridge:pass@ignored:4222", Users: []access.User{{Name: "alice", Password: "secret", Things: []mapping.Thing{"pump"}}}, Subjects: r.subjects, Cost: bcrypt.MinCost})
	nc, err := wire.Dial(testContext(t), wire.DialConfig{URL: strings.Replace(s.ClientURL(), "//", "//bridge:pass@", 1), Log: r.journal.log()})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if !access.Confined(testContext(t), nc) {
		t.Error("the printed accounts are not recognised")
	}
}

// TestStatusExpires: on an external server a status that is not renewed goes, and who watches hears of it; the embedded
// one goes with its bridge.
func TestStatusExpires(t *testing.T) {
	t.Parallel()
	url := plainServer(t, true)
	j := newJournal(t)
	nc, err := wire.Dial(testContext(t), wire.DialConfig{URL: url, Log: j.log()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	r := &rig{t: t, journal: j, subjects: subjects(t)}
	r.open(nc, StoreConfig{Things: []mapping.Thing{"a"}})
	embedded := newRig(t, "a")
	for want, nc := range map[bool]*nats.Conn{true: nc, false: embedded.nc} {
		for _, name := range []string{"FLEETS_STATUS", "FLEETS_SHADOW"} {
			kv, err := stream(t, nc).KeyValue(testContext(t), name)
			if err != nil {
				t.Fatal(err)
			}
			status, err := kv.Status(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			expires := want && name == "FLEETS_STATUS"
			if got := status.TTL() == StatusLife && status.LimitMarkerTTL() == statusMark; got != expires {
				t.Errorf("external %t: %s lives for %s, marks for %s", want, name, status.TTL(), status.LimitMarkerTTL())
			}
		}
	}
}
