package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// The programs of the demo.
const (
	thermostatName = "thermostat"
	hygrometerName = "hygrometer"
	updaterName    = "updater"
	dashboardName  = "dashboard"
)

// stage is everything that the tour plays on.
type stage struct {
	patience   time.Duration // how long a flow may take
	account    *account
	journal    *journal
	tap        *tap
	sim        *fleetsim.Sim
	link       *fleetsim.Link
	gateway    *gateway.Gateway
	configFile string                // of the bridge, for the commands that ask it
	nc         map[string]*nats.Conn // a program's own, by its name
	js         jetstream.JetStream   // to look into streams and buckets

	thermostat thermostat
	installed  chan struct{} // closed when the job's installation may end
	repeated   int           // how many messages the cloud sent a second time
	toured     atomic.Bool   // the tour has ended

	undo []func() error // what close does, from its end
}

// open starts the cloud, the link, the bridge and the programs, and returns when the bridge lets programs
// in. cancel is called when something ends that should not.
func open(ctx context.Context, cancel context.CancelCauseFunc, o Options) (*stage, error) {
	subjects, err := mapping.NewSubjects("fleets")
	if err != nil {
		return nil, err
	}
	s := &stage{
		account:  &account{out: o.Out, color: o.Color, failed: func(err error) { cancel(err) }},
		patience: o.patience, journal: newJournal(subjects), nc: map[string]*nats.Conn{}, installed: make(chan struct{}),
	}
	for _, start := range []func(context.Context, context.CancelCauseFunc, Options) error{s.openCloud, s.openBridge, s.openPrograms} {
		if err := start(ctx, cancel, o); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	if o.opened != nil {
		o.opened(s)
	}
	return s, nil
}

// close ends everything, in the opposite order.
func (s *stage) close() error {
	var errs []error
	for len(s.undo) > 0 {
		last := len(s.undo) - 1
		errs = append(errs, s.undo[last]())
		s.undo = s.undo[:last]
	}
	return errors.Join(errs...)
}

func (s *stage) later(f func() error) { s.undo = append(s.undo, f) }

func (s *stage) openCloud(ctx context.Context, cancel context.CancelCauseFunc, o Options) (err error) {
	s.sim, err = fleetsim.New(fleetsim.Options{
		Log: cloudLog(s.journal), Things: []string{Thing}, Misbehaviour: o.misbehaviour,
		ReplaceReported: true, // the page leaves open whether a report merges; this is the harder case
	})
	if err != nil {
		return err
	}
	s.later(s.sim.Close)
	go func() {
		if err := s.sim.Run(context.WithoutCancel(ctx)); err != nil {
			cancel(fmt.Errorf("the simulator ended: %w", err))
		}
	}()
	if err := s.sim.WaitReady(ctx); err != nil {
		return err
	}
	if s.link, err = fleetsim.NewLink(s.sim.BrokerURL()); err != nil {
		return err
	}
	s.later(s.link.Close)
	return nil
}

// config is a gateway's as a user writes it, but for the ports and what would make the tour slow.
func (s *stage) config(dir string) *gateway.Config {
	c := gateway.Default()
	c.MQTT.Server = []string{s.link.URL()}
	c.Fleets.URL = s.sim.HTTPURL()
	c.Things = []gateway.Thing{{Name: Thing, ClientID: Thing}}
	c.NATS.Embedded.Listen = "127.0.0.1:0"
	c.NATS.Embedded.StoreDir = dir
	c.NATS.Embedded.Sync = gateway.Sync{Interval: time.Second} // what is stored is thrown away in the end
	c.NATS.Up.MaxBytes, c.NATS.Down.MaxBytes = 64<<20, 64<<20
	c.HTTP.Listen, c.Console.Listen = "127.0.0.1:0", "127.0.0.1:0"
	c.Console.Actions = append(c.Console.Actions, "send")
	c.Requests.Timeout = 3 * time.Second
	c.Commands.HandlerWait = 300 * time.Millisecond
	return c
}

// written is the configuration of the bridge that runs, as a file for the commands that ask it.
func (s *stage) written() []byte {
	x, c := s.addresses(), s.gateway.Config()
	console, _, _ := strings.Cut(strings.TrimPrefix(x.console, "http://"), "/")
	return fmt.Appendf(nil, `mqtt: {server: %q}
fleets: {url: %q, api_key: any, api_secret: any}
things: [{name: %q}]
nats: {embedded: {listen: %q, store_dir: %q, sync: 1s}, up: {max_bytes: 64MiB}, down: {max_bytes: 64MiB}}
http: {listen: %q}
console: {listen: %q}
`, c.MQTT.Server[0], x.fleets, Thing, strings.TrimPrefix(x.nats, "nats://"), c.NATS.Embedded.StoreDir, strings.TrimPrefix(x.health, "http://"), console)
}

func (s *stage) openBridge(ctx context.Context, cancel context.CancelCauseFunc, o Options) error {
	dir, err := os.MkdirTemp("", "fleetbridge-demo-")
	if err != nil {
		return fmt.Errorf("a place for the store: %w; set TMPDIR to a directory that can be written", err)
	}
	s.later(func() error { return os.RemoveAll(dir) })
	if s.gateway, err = gateway.New(s.config(filepath.Join(dir, "store")), gateway.ReadBuild("", ""), bridgeLog(s.journal)); err != nil {
		return err
	}
	if o.Console != nil {
		s.gateway.Console = func(g *gateway.Gateway) gateway.Page { return o.Console(g, s.cloud) }
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		err := s.gateway.Run(work)
		if work.Err() == nil {
			cancel(fmt.Errorf("the bridge ended: %w", err))
		}
		ended <- err
	}()
	s.later(func() error { stop(); return <-ended })
	select {
	case <-s.gateway.Listening():
		s.configFile = filepath.Join(dir, "fleetbridge.yaml")
		return os.WriteFile(s.configFile, s.written(), 0o600)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *stage) openPrograms(ctx context.Context, _ context.CancelCauseFunc, _ Options) (err error) {
	if s.tap, err = openTap(ctx, s.gateway.NATSURL(), s.journal); err != nil {
		return err
	}
	s.later(func() error { s.tap.close(); return nil })
	if s.js, err = jetstream.New(s.tap.nc); err != nil {
		return err
	}
	for _, program := range []string{hygrometerName, updaterName, dashboardName} {
		options, err := s.identity(program)
		if err != nil {
			return err
		}
		if s.nc[program], err = nats.Connect(s.gateway.NATSURL(), options...); err != nil {
			return err
		}
		s.later(func() error { s.nc[program].Close(); return nil })
	}
	options, err := s.identity(thermostatName)
	if err != nil {
		return err
	}
	s.thermostat.trouble = func(err error) { s.journal.warn(thermostatName, err.Error()) }
	s.thermostat.install = s.install
	s.later(func() error {
		if s.thermostat.nc != nil {
			s.thermostat.nc.Close()
		}
		return nil
	})
	if err := s.thermostat.connect(s.gateway.NATSURL(), options...); err != nil {
		return err
	}
	<-s.thermostat.hint // its worker begins with the first job
	// The thermostat serves it, so the tap is never the only listener.
	return s.tap.listen(s.journal.subjects.Command(Thing, "setTemperature"))
}

// identity are the options by which the account knows a program.
func (s *stage) identity(program string) ([]nats.Option, error) {
	return []nats.Option{nats.Name(program), nats.Timeout(connectTime), nats.CustomInboxPrefix(inboxPrefix + program)}, s.tap.listen(inboxPrefix + program + ".>")
}

// install is what the thermostat's job does: it takes until the tour has looked at it.
func (s *stage) install(ctx context.Context, _ json.RawMessage) error {
	select {
	case <-s.installed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *stage) addresses() addresses {
	x := addresses{nats: s.gateway.NATSURL(), mqtt: s.sim.BrokerURL(), fleets: s.sim.HTTPURL(), health: "http://" + s.gateway.HTTPAddr(), config: s.configFile}
	if link, err := s.gateway.ConsoleLink(true); err == nil { // another each time, as each is good once
		x.console = link
	}
	return x
}

// settleTime is how long the account waits for the second sight of a message. It is used up only when
// something is wrong.
const settleTime = 2 * time.Second

// show prints what has passed since it was called last.
func (s *stage) show(ctx context.Context) {
	s.tap.sync(ctx)
	s.journal.settle(ctx, settleTime)
	s.account.rows(s.journal.take(0))
}

// showStored prints without waiting for what the bridge keeps.
func (s *stage) showStored(ctx context.Context) {
	s.tap.sync(ctx)
	s.account.rows(s.journal.take(0))
}

// tick prints what has passed, and below it what was checked.
func (s *stage) tick(ctx context.Context, format string, args ...any) {
	s.show(ctx)
	s.account.tick(fmt.Sprintf(format, args...))
}
