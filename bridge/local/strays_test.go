package local

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/mapping"
)

// TestStrays: what programs publish for a Thing or on a channel that there is not is said and counted, with an answer asked
// for or without, and its sender hears at once that nobody is there.
func TestStrays(t *testing.T) {
	t.Parallel()
	for name, users := range map[string][]access.User{"without users": nil, "with users": {{Name: "u"}}} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			counted := map[embedded.Stray]int{}
			for i := range users {
				users[i].Password, users[i].Things = "secret", []mapping.Thing{"a"}
			}
			r := newRigWith(t, embedded.Config{Users: users, Stray: func(s embedded.Stray) { mu.Lock(); defer mu.Unlock(); counted[s]++ }}, StoreConfig{Things: []mapping.Thing{"a"}})
			r.server.SetThings([]mapping.Thing{"a"})
			r.journal.forgive("it goes nowhere", "Violation")
			nc := r.program(nats.UserInfo("u", "secret"))
			for _, subject := range []string{"fleets.up.a.evnts.x", "fleets.up.deev.events.x"} {
				if err := nc.Publish(subject, nil); err != nil {
					t.Fatal(err)
				}
				if len(users) > 0 && strings.Contains(subject, "deev") { // refused by its permissions
					continue
				}
				if _, err := nc.Request(subject, nil, patience); err != nats.ErrNoResponders {
					t.Errorf("%s: %v", subject, err)
				}
			}
			r.publish(nc, "fleets.up.a.events.x", `{"eventType":"x","severity":"info"}`)
			if err := nc.Publish("fleets.other", nil); err != nil {
				t.Fatal(err)
			}
			flush(t, nc)
			r.journal.expect(t, "WARN", "a channel that a Thing does not have", "fleets.up.a.evnts.x")
			if len(users) == 0 { // who watches everything changes nothing
				r.journal.expect(t, "WARN", "a Thing that is not configured", "fleets.up.deev.events.x")
				r.subscribe("fleets.>")
				if err := nc.Publish("fleets.up.odd.events.x", nil); err != nil {
					t.Fatal(err)
				}
				r.publish(nc, "fleets.up.a.events.x", `{"eventType":"x","severity":"info"}`)
				r.journal.expect(t, "WARN", "a Thing that is not configured", "fleets.up.odd.events.x")
			}
			mu.Lock()
			defer mu.Unlock()
			if counted[embedded.StrayChannel] != 2 || (counted[embedded.StrayThing] > 0) != (len(users) == 0) {
				t.Errorf("counted %v", counted)
			}
		})
	}
}

// TestStraysOfStrangers: who has no login is not said to have published anything.
func TestStraysOfStrangers(t *testing.T) {
	t.Parallel()
	var counted atomic.Int64
	r := newRigWith(t, embedded.Config{Users: []access.User{{Name: "u", Password: "secret", Things: []mapping.Thing{"a"}}}, Stray: func(embedded.Stray) { counted.Add(1) }},
		StoreConfig{Things: []mapping.Thing{"a"}})
	r.server.SetThings([]mapping.Thing{"a"})
	r.journal.forgive(" - cid:", "it goes nowhere")
	many := strings.Repeat("PUB fleets.up.deev.events.x 0\r\n\r\n", 1000)
	for _, hello := range []string{"", `CONNECT {"user":"u","pass":"wrong"}` + "\r\n"} {
		r.stranger(hello + many)
	}
	if n := counted.Load(); n != 0 {
		t.Errorf("%d publishes of strangers are counted", n)
	}
}

// TestReadAlongTheServer: what the server reads otherwise than the door ends the connection, and what follows is not carried
// out: a size of which it drops the last digit, a verb of routes, behind which it takes no payload.
func TestReadAlongTheServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, "a")
	r.journal.forgive(" - cid:", " nowhere")
	for _, before := range []string{"PUB \rraw.x 22\nhi\r\n", "HMSG raw.x 20\r\n\r\n"} {
		c := rawLogin(t, r.server.URL(), "")
		c.write("%s", before)
		_, _ = io.WriteString(c.conn, "PING\r\nPUB fleets.up.a.events.x 2\r\n{}\r\nPING\r\n")
		_, _ = io.WriteString(c.conn, strings.Repeat("PING\r\n", 1000)) // until it is noticed
		if _, err := io.Copy(io.Discard, c.in); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: the connection stays", before)
		}
	}
	r.untouched()
}
