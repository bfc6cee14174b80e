package local

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/services"
	"fleetbridge/mapping"
)

// TestLongLines: the server ends a connection for a line that is too long, and nats.go does not make it anew. So nothing that
// a program or the cloud writes may make a line of the bridge's that long. The attack: the longest that the server takes from
// a program, and what is longer, in each place from which the bridge makes a subject or a reply subject.
func TestLongLines(t *testing.T) {
	t.Parallel()
	users := []access.User{{Name: "alice", Password: "secret", Things: []mapping.Thing{"a"}}, {Name: "bob", Password: "secret", Things: []mapping.Thing{"b"}}}
	r := newRigWith(t, embedded.Config{Users: users}, StoreConfig{Things: []mapping.Thing{"a", "b"}})
	r.journal.forgive(" - cid:", "Violation", "maximum control line")
	y := (&yard{rig: r, url: r.server.URL()}).serve(users)
	ended := make(chan error, 100)
	r.server.OnClosed(func(err error) { ended <- err })
	long := func(begin string, n int) string { return begin + strings.Repeat("x", n-len(begin)) }
	for _, line := range []string{
		"PUB $JS.API.STREAM.NAMES %s 0", "PUB $JS.API.INFO %s 0", "PUB $JS.API.STREAM.INFO.FLEETS_DOWN %s 0", "PUB $JS.API.STREAM.MSG.GET.FLEETS_DOWN %s 0",
		"PUB $JS.API.DIRECT.GET.FLEETS_DOWN.fleets.down.a.x %s 0", "PUB $JS.API.DIRECT.GET.FLEETS_DOWN %s 0", "PUB $JS.API.CONSUMER.MSG.NEXT.FLEETS_DOWN.c %s 0",
		"PUB $JS.API.CONSUMER.CREATE.FLEETS_DOWN %s 0", "PUB fleets.up.a.events.x %s 0", "PUB fleets.up.b.events.x %s 0", "PUB fleets.up.nobody.x %s 0",
		"PUB fleets.req.a.jobs.get %s 0", "PUB fleets.req.b.jobs.get %s 0", "PUB fleets.req.a.nothing %s 0", "PUB fleets.req.a.shadow.get %s 0",
	} {
		for _, inbox := range []string{"_INBOX.", "_INBOX_alice."} {
			for _, n := range []int{2000, 2048, 2049, 3000, 4000, server.MAX_CONTROL_LINE_SIZE - len(line) + len("PUB %s"), 5000, 8000, 9000} {
				c := rawLogin(t, r.server.URL(), "alice")
				_, _ = fmt.Fprintf(c.conn, "%s\r\n\r\nPING\r\n", fmt.Sprintf(line, long(inbox, n)))
				for { // until the server has read it, or has ended the connection, which may be in the middle of it
					in, err := c.in.ReadString('\n')
					if err != nil || strings.HasPrefix(in, "PONG") {
						break
					}
				}
				_ = c.conn.Close()
			}
		}
	}
	// A command of an older version's store.
	l, err := services.NewHandlers(r.nc, r.subjects, r.server.NATS(), nil).Listen("a", "token")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Call(testContext(t), bridge.Call{Thing: "a", Execution: "e", Action: strings.Repeat("x", 5000), Deadline: time.Now().Add(time.Minute)}); err != bridge.ErrNoHandler {
		t.Errorf("a command whose name no subject holds: %v", err)
	}
	for _, name := range []string{"alice", "bob"} { // everybody is served
		nc := y.as(name)
		js := stream(t, nc)
		if _, err := js.Publish(testContext(t), "fleets.up."+name[:1]+".events.x", []byte(`{}`)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := js.Publish(testContext(t), "fleets.up.nobody.events.x", nil); err == nil {
			t.Errorf("%s: a publish that is not allowed is taken", name)
		}
		if _, err := nc.Request("$JS.API.STREAM.INFO.FLEETS_DOWN", nil, patience); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	select {
	case err := <-ended:
		t.Error(err)
	default:
	}
	// What ends for good is told.
	nc, err := r.server.Connect("fleetbridge long")
	if err != nil {
		t.Fatal(err)
	}
	r.server.OnClosed(func(err error) { ended <- err })
	if err := nc.Publish(long("x", 5000), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !strings.Contains(err.Error(), "fleetbridge long") {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("a connection has ended for good, and nobody hears of it")
	}
}
