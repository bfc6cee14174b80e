package local

import (
	"crypto/tls"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/mapping"
)

// behindTLS is a server with TLS and users a, b.
func behindTLS(t *testing.T, config embedded.Config) *rig {
	t.Helper()
	config.TLS = serverTLS(t)
	for _, name := range []string{"a", "b"} {
		config.Users = append(config.Users, access.User{Name: name, Password: "secret", Things: []mapping.Thing{mapping.Thing(name)}})
	}
	r := newRigWith(t, config, StoreConfig{Things: []mapping.Thing{"a", "b"}})
	r.server.SetThings([]mapping.Thing{"a", "b"})
	r.journal.forgive(" - cid:")
	return r
}

// TestFencesBehindTLS: what programs send by TLS is bounded, counted and answered as it is without.
func TestFencesBehindTLS(t *testing.T) {
	t.Parallel()
	var strays atomic.Int64
	r := behindTLS(t, embedded.Config{Stray: func(embedded.Stray) { strays.Add(1) }})
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
	t.Parallel()
	r := behindTLS(t, embedded.Config{})
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
