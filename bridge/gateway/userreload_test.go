package gateway_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/fleetsim"
)

// A file in things_dir brings a Thing and its program's login, and takes them with it; a program that works meanwhile
// notices nothing of it, not even if it may act for all Things.
func TestThingAndItsLogin(t *testing.T) {
	t.Parallel() // it waits more than it works
	const text = "things: [{name: pump-07}]\nlocal: {users: [{name: busy, password: secret}, {name: other, password: secret, things: [pump-07]}]}\n"
	f := follow(t, []string{"pump-07", "valve-3"}, text, "the new configuration is refused", "authentication error")
	if err := os.Mkdir(filepath.Join(f.dir, "things.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	replace(t, f.file, f.config(text+"things_dir: things.d\n"))
	busy := f.as("busy")
	heard := f.hears(busy, "fleets.down.pump-07.jobs.notify")
	part := filepath.Join(f.dir, "things.d", "valve.yaml")
	replace(t, part, "things:\n  - name: valve-3\nlocal:\n  users:\n    - {name: valve, password: new, things: [valve-3]}\n")
	f.connected("valve-3", true)
	f.metrics(reloadGood)
	valve := f.as("valve", "new")
	f.stores(valve, "fleets.up.valve-3.events.n", event(0))
	f.arrives("$emqx/things/valve-3/events/n", event(0))
	f.stores(busy, "fleets.up.valve-3.events.n", event(1)) // on the connection that it had
	f.arrives("$emqx/things/valve-3/events/n", event(1))
	f.again <- syscall.Signal(1)                                                                                                // nothing has changed
	replace(t, part, "things:\n  - name: valve-3\nlocal:\n  users:\n    - {name: valve, password: newer, things: [valve-4]}\n") // there is none
	f.metrics(reloadBad)
	f.stores(f.as("valve", "new"), "fleets.up.valve-3.events.n", event(2))
	replace(t, part, "things:\n  - name: valve-3\nlocal:\n  users:\n    - {name: valve, password: newer, things: [valve-3]}\n")
	valve.gone(t)
	valve = f.as("valve", "newer")
	if err := os.Remove(part); err != nil {
		t.Fatal(err)
	}
	valve.gone(t)
	if nc, err := nats.Connect(f.gw.NATSURL(), nats.UserInfo("valve", "newer")); err == nil {
		nc.Close()
		t.Error("a user that is gone comes in")
	}
	if err := f.sim.Broker().WaitConnected(f.context(), "valve-3", false); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		f.stores(busy, "fleets.up.pump-07.events.n", event(n))
	}
	f.inOrder(3)
	if n := busy.Stats().Reconnects; n != 0 || busy.Status() != nats.CONNECTED || busy.LastError() != nil {
		t.Errorf("the busy one: %d reconnects, %s, %v", n, busy.Status(), busy.LastError())
	}
	f.down("$emqx/things/pump-07/jobs/notify", `{}`, fleetsim.PublishOptions{})
	f.next(heard)
}

// program is a program that logs in.
type program struct {
	*nats.Conn
	closed chan struct{}
}

func (f *followed) as(name string, password ...string) program {
	f.t.Helper()
	p := program{closed: make(chan struct{})}
	word := "secret"
	if len(password) > 0 {
		word = password[0]
	}
	var err error
	p.Conn, err = nats.Connect(f.gw.NATSURL(), nats.UserInfo(name, word), nats.CustomInboxPrefix("_INBOX_"+name), nats.ClosedHandler(func(*nats.Conn) { close(p.closed) }),
		nats.MaxReconnects(0), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(p.Close)
	return p
}

// gone waits until the connection has ended.
func (p program) gone(t *testing.T) {
	t.Helper()
	select {
	case <-p.closed:
	case <-time.After(patience):
		t.Fatal("the connection is still there")
	}
}

func (f *followed) stores(p program, subject, payload string) {
	f.t.Helper()
	js, err := jetstream.New(p.Conn)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := js.Publish(f.context(), subject, []byte(payload)); err != nil {
		f.t.Fatal(fmt.Errorf("%s: %w", subject, err))
	}
}

func (f *followed) hears(p program, subject string) *nats.Subscription {
	f.t.Helper()
	sub, err := p.SubscribeSync(subject)
	if err == nil {
		err = p.Flush()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return sub
}
