package gateway_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

// followed is a site that follows a file.
type followed struct {
	*site
	dir, file string
	again     chan os.Signal
}

// follow starts a bridge on a file that says what it is given, after the simulator's address.
func follow(t *testing.T, registered []string, text string, expected ...string) *followed {
	t.Helper()
	f := &followed{dir: t.TempDir(), again: make(chan os.Signal, 1)}
	f.file = filepath.Join(f.dir, "gw.yaml")
	f.site = &site{t: t, statusBucket: "FLEETS_STATUS", sim: fleetsim.Start(t, fleetsim.Options{Things: registered})}
	writeFile(t, f.file, []byte(f.config(text)))
	source := gateway.NewFile(f.file, os.LookupEnv)
	var err error
	if f.cfg, err = source.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	var expectations []fleetsim.Expectation
	for _, e := range expected {
		expectations = append(expectations, fleetsim.Expect(e))
	}
	f.log = fleetsim.Log(t, expectations...)
	f.start()
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { f.gw.Follow(ctx, source, f.again) })
	t.Cleanup(func() { cancel(); following.Wait() })
	f.ready()
	return f
}

// config is a whole file.
func (f *followed) config(text string) string {
	return "mqtt: {server: \"" + f.sim.BrokerURL() + "\"}\nnats: {embedded: {listen: \"127.0.0.1:0\", store_dir: store}}\nhttp: {listen: \"127.0.0.1:0\"}\n" + text
}

// replace writes a file as careful programs do: beside it, and then in its place.
func replace(t *testing.T, path, text string) {
	t.Helper()
	writeFile(t, path+".new", []byte(text))
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

const (
	reloadGood = "fleetbridge_config_last_reload_successful 1"
	reloadBad  = "fleetbridge_config_last_reload_successful 0"
)

// A file that somebody writes all the time holds no change back for ever.
func TestFollowRestlessFile(t *testing.T) {
	t.Parallel() // it waits more than it works
	f := follow(t, []string{"pump-07", "valve-3"}, "things: [{name: pump-07}]\n", "change all the time")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 0; ; n++ {
			text := f.config("things: [{name: pump-07}, {name: valve-3}]\n") + "#" + strings.Repeat("x", n%1000) + "\n"
			if os.WriteFile(f.file+".new", []byte(text), 0o600) != nil || os.Rename(f.file+".new", f.file) != nil {
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	f.connected("valve-3", true)
}

// A changed file is taken over, a broken one is refused with every problem in one line while the old
// configuration goes on, and SIGHUP asks for another try.
func TestFollow(t *testing.T) {
	t.Parallel() // it waits more than it works
	f := follow(t, []string{"pump-07", "valve-3", "third"}, "things: [{name: pump-07}]\n", "the new configuration is refused")
	f.metrics(reloadGood)
	replace(t, f.file, f.config("things: [{name: pump-07}, {name: valve-3, password_file: secret}]\n")) // there is none
	f.metrics(reloadBad)
	f.publish("fleets.up.pump-07.events.n", event(0))
	f.arrives("$emqx/things/pump-07/events/n", event(0))
	writeFile(t, filepath.Join(f.dir, "secret"), []byte("hunter2\n")) // now there is; the file itself has not changed
	f.connected("valve-3", true)
	f.metrics(reloadGood)

	// What is no file at all is refused like a broken one, and forgotten as soon.
	pipe := filepath.Join(f.dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	replace(t, f.file, f.config("things: [{name: pump-07}, {name: valve-3, password_file: pipe}]\n"))
	f.metrics(reloadBad)
	replace(t, f.file, f.config("things: [{name: pump-07}]\n"))
	f.metrics(reloadGood)
	link(t, "pipe", f.file)
	f.metrics(reloadBad)
	replace(t, f.file, f.config("things: [{name: pump-07}, {name: valve-3, password_file: secret}]\n"))
	f.connected("valve-3", true)
	f.metrics(reloadGood)

	replace(t, f.file, f.config("thinks: [{name: pump-07}\n"))
	f.metrics(reloadBad)
	replace(t, f.file, f.config("things: [{name: pump-07}, {name: valve-3, password_file: secret}]\nlimits: {depth: 3}\n"))
	f.again <- syscall.Signal(1)
	replace(t, f.file, f.config("things: [{name: third}, {name: pump-07}]\n"))
	f.connected("third", true)
	f.metrics(reloadGood)
	f.connected("valve-3", false)
}

// Kubernetes changes all files of a volume at once, by swapping the link behind them.
func TestFollowLinks(t *testing.T) {
	t.Parallel() // it waits more than it works
	f := follow(t, []string{"pump-07", "valve-3"}, "things: [{name: pump-07}]\n")
	volume := func(name, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(f.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(f.dir, name, "gw.yaml"), []byte(f.config(text)))
		link(t, name, filepath.Join(f.dir, "..data"))
	}
	volume("..1", "things: [{name: pump-07}]\n")
	link(t, "..data/gw.yaml", f.file)
	volume("..2", "things: [{name: pump-07}, {name: valve-3}]\n")
	f.connected("valve-3", true)
	volume("..3", "things: [{name: pump-07}]\n")
	if err := f.sim.Broker().WaitConnected(f.context(), "valve-3", false); err != nil {
		t.Fatal(err)
	}
}

// link makes a symbolic link in the place of what is there.
func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A password that changes in its file makes the Thing that has it connect anew.
func TestFollowSecret(t *testing.T) {
	t.Parallel() // it waits more than it works
	f := follow(t, []string{"pump-07", "valve-3"}, "things: [{name: pump-07}, {name: valve-3}]\n", "connection lost", "cannot connect")
	writeFile(t, filepath.Join(f.dir, "secret"), []byte("old\n"))
	replace(t, f.file, f.config("things: [{name: pump-07}, {name: valve-3, username: valve, password_file: secret}]\n"))
	f.status("valve-3", func(status string) bool { return strings.Contains(status, `"sessionPresent":true`) })
	f.sim.Broker().SetLogins(fleetsim.Login{Username: "valve", Password: "new"}, fleetsim.Login{ClientID: "pump-07"})
	if err := f.sim.Broker().Disconnect("valve-3", 0x98); err != nil {
		t.Fatal(err)
	}
	f.status("valve-3", func(status string) bool { return strings.Contains(status, "0x86") })
	writeFile(t, filepath.Join(f.dir, "secret"), []byte("new\n"))
	f.status("valve-3", func(status string) bool { return strings.Contains(status, `"connected":true`) })
}
