package local

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fleetbridge/mapping"
)

// behindTLS is a server with TLS and users a, b.
func behindTLS(t *testing.T, config ServerConfig) *rig {
	t.Helper()
	config.TLS = serverTLS(t)
	for _, name := range []string{"a", "b"} {
		config.Users = append(config.Users, User{Name: name, Password: "secret", Things: []mapping.Thing{mapping.Thing(name)}})
	}
	r := newRigWith(t, config, StoreConfig{Things: []mapping.Thing{"a", "b"}})
	r.server.SetThings([]mapping.Thing{"a", "b"})
	r.journal.forgive(" - cid:")
	return r
}

// TestFencesBehindTLS: what programs send by TLS is bounded, counted and answered as it is without.
func TestFencesBehindTLS(t *testing.T) {
	var strays atomic.Int64
	r := behindTLS(t, ServerConfig{Stray: func(Stray) { strays.Add(1) }})
	r.journal.forgive(" nowhere")
	c := rawSecure(t, r.server.URL(), "b")
	if _, data := c.request("b", "fleets.up.b.events.x", "", "{}"); !strings.Contains(data, `"seq"`) {
		t.Fatal(data)
	}
	c.publish("fleets.up.b.evnts.x", "", "", "{}")
	c.flush()
	if strays.Load() != 1 {
		t.Errorf("%d strays", strays.Load())
	}
	r.beginsMany(func() *rawClient { return rawSecure(t, r.server.URL(), "a") })
}

// TestTLSIsWanted: who speaks no TLS, or TLS within TLS, is heard by nobody.
func TestTLSIsWanted(t *testing.T) {
	r := behindTLS(t, ServerConfig{})
	const hello = `CONNECT {"verbose":false,"user":"a","pass":"secret"}` + "\r\nPUB fleets.up.a.events.x 2\r\n{}\r\nPING\r\n"
	plain, _ := rawGreeted(t, r.server.URL())
	plain.write("%s", hello)
	if said, _ := io.ReadAll(plain.in); strings.Contains(string(said), "PONG") {
		t.Errorf("without TLS: %q", said)
	}
	twice, _ := rawGreeted(t, r.server.URL())
	inner := tls.Client(tls.Client(twice.conn, &tls.Config{InsecureSkipVerify: true}), &tls.Config{InsecureSkipVerify: true})
	_, _ = io.WriteString(inner, hello)
	if said, _ := io.ReadAll(inner); strings.Contains(string(said), "PONG") {
		t.Errorf("with TLS within TLS: %q", said)
	}
	queued, err := r.up().Queued(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for thing, n := range queued {
		if n > 0 {
			t.Errorf("%d messages of %s are stored", n, thing)
		}
	}
}

// TestFarewell: who reads nothing any more is not waited for when TLS says goodbye.
func TestFarewell(t *testing.T) {
	config := serverTLS(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	deaf, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	_ = deaf.(*net.TCPConn).SetReadBuffer(4 << 10)
	taken, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	tcp := taken.(*net.TCPConn)
	_ = tcp.SetWriteBuffer(4 << 10)
	shook := make(chan error, 1)
	go func() { shook <- tls.Client(deaf, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
	var over atomic.Bool
	deadlines := &deadlines{below: below{tcp, &over}}
	s := tls.Server(deadlines, config)
	if err := errors.Join(s.Handshake(), <-shook); err != nil {
		t.Fatal(err)
	}
	over.Store(true)
	begun := time.Now()
	_ = s.Close()
	for _, d := range deadlines.set {
		if d.After(begun.Add(2 * time.Second)) {
			t.Errorf("the goodbye may take %v", d.Sub(begun))
		}
	}
	if len(deadlines.set) == 0 {
		t.Error("TLS sets no deadline for its goodbye")
	}
}

// deadlines notes what is set.
type deadlines struct {
	below
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set = append(d.set, d.limit(t))
	return d.below.SetWriteDeadline(t)
}
