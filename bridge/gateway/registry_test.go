//go:build !windows

package gateway_test

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local/registry"
	"fleetbridge/internal/race"
	"fleetbridge/mapping"
)

// Things come and go by the registry while the sessions of others go on. A bad entry costs only itself, and is counted.
func TestRegistry(t *testing.T) {
	simOnly(t)
	t.Parallel()
	many := 300
	if race.Enabled {
		many = 50
	}
	names := []string{"pump-07", "valve-3"}
	for i := range many {
		names = append(names, fmt.Sprint("t-", i))
	}
	ns := externalNATS(t)
	s, f := yard(t, names, expect("an entry of the registry of things is refused"), edit(func(c *gateway.Config) { c.NATS.URL = gateway.NATSURL(ns.ClientURL()) }))
	nc, err := nats.Connect(ns.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	subjects, _ := mapping.NewSubjects("fleets")
	reg, err := registry.New(nc, subjects, 1)
	if err != nil {
		t.Fatal(err)
	}
	put := func(entries ...registry.Entry) uint64 {
		t.Helper()
		revision, err := reg.Put(s.context(), entries, false)
		if err != nil {
			t.Fatal(err)
		}
		return revision
	}
	entry := func(key, value string) registry.Entry {
		return registry.Entry{Key: key, Value: []byte(value)}
	}
	// taken waits until the bridge has taken a change over, and returns what it says of a Thing.
	taken := func(revision uint64, thing string) registry.Standing {
		t.Helper()
		for {
			answers, err := registry.AskStandings(s.context(), nc, subjects, []string{thing}, 1)
			if err != nil {
				t.Fatal(err)
			}
			if len(answers) == 1 && answers[0].Revision >= revision {
				return answers[0].Things[0]
			}
		}
	}
	put(entry("valve-3", `{"name":"valve-3"}`))
	s.connected("valve-3", true)
	s.publish("fleets.up.valve-3.events.n", event(0))
	s.arrives("$emqx/things/valve-3/events/n", event(0))

	revision := put(entry("pump-07", `{"name":"pump-07","username":"other"}`), entry("bad", `{"name":"bad","password":"p"}`))
	if got := taken(revision, "bad"); got.Here || got.Refused == "" {
		t.Errorf("a bad entry: %+v", got)
	}
	if got := taken(revision, "pump-07"); !got.Here || got.Refused == "" {
		t.Errorf("an entry for a Thing of the configuration: %+v", got)
	}
	s.metrics("fleetbridge_things_refused 2")

	var entries []registry.Entry
	for _, name := range names[2:] {
		entries = append(entries, entry(name, fmt.Sprintf(`{"name":%q}`, name)))
	}
	put(entries...)
	for _, name := range names[2:] {
		s.connected(name, true)
	}
	if n := len(f.came()); n != 2+many {
		t.Errorf("%d connections, want %d: somebody's session was cut", n, 2+many)
	}
	gone, err := reg.Remove(s.context(), []string{"valve-3", "bad", "pump-07"})
	if err != nil {
		t.Fatal(err)
	}
	s.connected("valve-3", false)
	if got := taken(gone, "pump-07"); !got.Here || !got.Connected || got.Refused != "" {
		t.Errorf("the Thing of the configuration: %+v", got)
	}
	s.metrics("fleetbridge_things_refused 0")

	// A reload of the file keeps those of the registry.
	s.reload(s.with(func(c *gateway.Config) { c.Things = append(c.Things, thingNamed("valve-3")) }))
	s.connected("valve-3", true)
	if n := len(f.came()); n != 3+many {
		t.Errorf("%d connections, want %d", n, 3+many)
	}
}
