package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/fleetsim"
)

// Things are added to a bridge that runs, work, and go again; what is wrong is said before anything is written.
func TestThings(t *testing.T) {
	t.Parallel() // it waits more than it works
	dir := t.TempDir()
	sim := fleetsim.Start(t, fleetsim.Options{Things: []string{"pump-07", "valve-3", "valve-4"}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	config := filepath.Join(dir, "gw.yaml")
	put(t, config, fmt.Sprintf("mqtt: {server: %q}\nthings: [{name: pump-07}]\nthings_dir: things.d\nthing_defaults: {username: 'u-{name}'}\n"+
		"nats: {embedded: {listen: %q, store_dir: data}}\nhttp: {listen: ''}\nconsole: {listen: ''}\n", sim.BrokerURL(), address))
	if err := os.Mkdir(filepath.Join(dir, "things.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	things := func(args ...string) string {
		t.Helper()
		return strings.ReplaceAll(invoke(t, append([]string{"things", "--config", config}, args...), ""), dir, "DIR")
	}
	is := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
	away := "! fleetbridge: things: the bridge does not answer at nats.embedded.listen " + address + "; is it running with this configuration?\n"
	is(things("where", "pump-07"), away+"[1]\n")

	ctx, cancel := context.WithCancel(t.Context())
	up, ended := make(chan struct{}), make(chan int, 1)
	errs := &watched{text: "programs can connect", seen: func() { close(up) }}
	go func() {
		ended <- run(ctx, []string{"run", "--config", config}, streams{strings.NewReader(""), &bytes.Buffer{}, errs})
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != done {
			t.Errorf("the bridge ended with %d\n%s", code, errs)
		}
	})
	select {
	case <-up:
	case code := <-ended:
		ended <- code
		t.Fatalf("the bridge did not start\n%s", errs)
	}
	is(things("add", "pump-07", "a/b"), "! arguments:2:13: things[0].name: \"pump-07\" is the name of things[0] in DIR/gw.yaml:2 already\n"+
		"! arguments:3:13: things[1].name: thing name \"a/b\": contains '/', which MQTT topics reserve\n[1]\n")
	is(things("add"), "! fleetbridge: things add: write NAME… or -f FILE\n[2]\n")
	is(things("rm", "pump-07"), "! fleetbridge: things rm: pump-07 stands in DIR/gw.yaml:2, which things add has not written: remove it there\n[1]\n")
	is(things("rm", "pump-08"), "! fleetbridge: things: no Thing \"pump-08\", did you mean pump-07?\n[1]\n")

	file := filepath.Join(dir, "new.yaml")
	put(t, file, "things:\n- {name: valve-3}\n- {name: valve-4, usrname: x}\n")
	is(things("add", "-f", file), "! DIR/new.yaml:3:19: things[1].usrname: is no known key, did you mean username?\n[1]\n")
	many := "things:\n"
	for n := range 5001 {
		many += fmt.Sprintf("- {name: n%d}\n", n)
	}
	put(t, file, many)
	is(things("add", "-f", file), "! fleetbridge: things add: DIR/new.yaml has 5001 things, and at most 5000 are added at a time: divide it into several files\n[1]\n")
	put(t, file, "things:\n- {name: valve-3}\n- {name: valve-4, username: v4}\n")
	is(things("add", "-f", file), "valve-3 added\nvalve-4 added\n")
	wait, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	for _, name := range []string{"pump-07", "valve-3", "valve-4"} {
		if err := sim.Broker().WaitConnected(wait, name, true); err != nil {
			t.Fatal(err)
		}
	}
	is(things("ls"), "THING    BRIDGE  CONNECTED  QUEUED  FROM\npump-07  here    yes        0       DIR/gw.yaml:2\n"+
		"valve-3  here    yes        0       DIR/things.d/valve-3.yaml:3\nvalve-4  here    yes        0       DIR/things.d/valve-4.yaml:3\n")
	is(things("show", "valve-3"), "thing      valve-3\nfrom       DIR/things.d/valve-3.yaml:3\nbridge     here\nconnected  yes\nqueued     0\nclient_id  valve-3\nusername   u-valve-3\n")
	if got := invoke(t, []string{"__complete", "things", "rm", "--config", config, "valve-3", "v"}, ""); !strings.HasPrefix(got, "valve-4\n:") {
		t.Errorf("completion: %s", got)
	}
	nc, err := nats.Connect("nats://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.RequestWithContext(wait, "fleets.up.valve-3.shadow.update", []byte(`{"state":{"reported":{"t":1}}}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := sim.WaitPublish(wait, func(p fleetsim.Publish) bool { return p.Topic == "$emqx/things/valve-3/shadow/update" }); err != nil {
		t.Fatal(err)
	}
	removed := things("rm", "valve-3", "valve-4", "--force") // the report may count still: it is settled a moment later
	is(strings.Replace(removed, "; 1 messages stay stored until it is added again", "", 1), "valve-3 removed\nvalve-4 removed\n")
	if err := sim.Broker().WaitConnected(wait, "valve-4", false); err != nil {
		t.Fatal(err)
	}
	is(things("where", "valve-3"), "! fleetbridge: things: no Thing \"valve-3\"; fleetbridge things ls lists those that there are\n[1]\n")
	if n := strings.Count(errs.String(), "msg=connected thing=pump-07 "); n != 1 {
		t.Errorf("pump-07 connected %d times", n)
	}
}
