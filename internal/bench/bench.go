package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// Which broker a gateway is measured against.
const (
	BrokerSim  = "sim"  // the simulator's
	BrokerFree = "free" // one that costs nothing
	BrokerReal = "real" // the configuration's
)

// Options of a measurement of one gateway.
type Options struct {
	Load Load // without Things, all that the configuration names, or one
	// Things is how many; 0: one, or with a configuration all that it names.
	Things int
	Broker string
	Config string // of BrokerReal
	// The cloud's login at a real broker: with it the measurement takes and sends in the cloud's name.
	CloudClientID, CloudUsername, CloudPassword string
	// StoreDir is where the bridge's store is made, and removed again; empty: beside the configured one,
	// or in the working directory, so that it is on the disk that matters.
	StoreDir string
	Sync     string // nats.embedded.sync, in the place of the configured one
	// Worker is the command line of a process that calls Work; empty: the bridge runs in this process, and
	// its processor time isn't known.
	Worker   []string
	Profile  string // a CPU profile of the bridge's process goes here
	Progress Progress
	Log      io.Writer // what the bridge says
}

// startTime is how long a bridge may take until every Thing is ready, for each Thing and in all.
const (
	startTime      = 30 * time.Second
	startTimeThing = 50 * time.Millisecond
)

// Run measures a gateway.
func Run(ctx context.Context, o Options) (r Result, err error) {
	real, err := o.complete()
	if err != nil {
		return Result{}, err
	}
	l := o.Load
	if err := l.complete(); err != nil { // before anything is started
		return Result{}, err
	}
	dir, err := o.makeStore(real)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cloud, url, stop, err := o.cloud(real)
	if err != nil {
		return Result{}, err
	}
	defer stop()
	s := Setup{Config: o.Config, Broker: url, Things: l.Things, StoreDir: filepath.Join(dir, "store"), Sync: o.Sync}
	bridge, err := o.start(ctx, s)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, bridge.Close()) }()
	if p, ok := bridge.(*Process); ok && o.Profile != "" {
		path, err := filepath.Abs(o.Profile)
		if err != nil {
			return Result{}, err
		}
		end, err := p.Profile(path)
		if err != nil {
			return Result{}, err
		}
		defer func() { err = errors.Join(err, end()) }()
	}
	path := Bridge{NATS: bridge.URL(), Prefix: gateway.Default().NATS.Prefix, Cloud: cloud, Answers: real == nil}
	if real != nil {
		path.Prefix = real.NATS.Prefix
	}
	if cloud == nil {
		path.Delivered = Delivered(bridge.HTTP(), l.Channel)
	}
	return Measure(ctx, l, path, Gauges{bridge, o.Progress})
}

// measured is a bridge that runs.
type measured interface {
	Contender
	Subject
}

func (o Options) start(ctx context.Context, s Setup) (measured, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime+time.Duration(len(s.Things))*startTimeThing)
	defer cancel()
	if len(o.Worker) > 0 {
		return Start(ctx, o.Worker, s, o.Log)
	}
	c, err := StartGateway(ctx, s, slog.New(slog.NewTextHandler(o.Log, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return nil, err
	}
	return inProcess{c}, nil
}

// complete fills in what was left open. real is the configuration, when its broker is used.
func (o *Options) complete() (real *gateway.Config, err error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Broker != BrokerReal {
		for i := range max(o.Things, 1) {
			o.Load.Things = append(o.Load.Things, mapping.Thing(fmt.Sprintf("bench-%04d", i)))
		}
		return nil, nil
	}
	if real, err = gateway.Load(o.Config, os.LookupEnv); err != nil {
		return nil, err
	}
	if o.Things > len(real.Things) {
		return nil, fmt.Errorf("things: %d, the configuration names %d", o.Things, len(real.Things))
	}
	if o.Things == 0 {
		o.Things = len(real.Things)
	}
	for _, t := range real.Things[:o.Things] {
		o.Load.Things = append(o.Load.Things, mapping.Thing(t.Name))
	}
	return real, nil
}

// makeStore makes the directory for the store.
func (o Options) makeStore(real *gateway.Config) (string, error) {
	parent := o.StoreDir
	if parent == "" {
		parent = "."
		if real != nil {
			parent = filepath.Dir(real.NATS.Embedded.StoreDir)
		}
	}
	dir, err := os.MkdirTemp(parent, "fleetbridge-bench-")
	if err != nil {
		return "", fmt.Errorf("a place for the store: %w; name a directory that can be written with --store-dir", err)
	}
	return filepath.Abs(dir)
}

// cloud starts the broker, or prepares to log in to a real one. A nil Cloud: there is no login for it.
func (o Options) cloud(real *gateway.Config) (c Cloud, url string, stop func(), err error) {
	switch o.Broker {
	case BrokerFree:
		f, err := NewFreeBroker()
		if err != nil {
			return nil, "", nil, err
		}
		return f, f.URL(), f.Close, nil
	case BrokerReal:
		if o.CloudUsername == "" && o.CloudClientID == "" {
			return nil, "", func() {}, nil
		}
		tls, err := real.MQTT.TLS.Client()
		if err != nil {
			return nil, "", nil, err
		}
		id := o.CloudClientID
		if id == "" {
			id = "fleetbridge-bench-" + nonce()
		}
		return Broker{URL: real.MQTT.Server[0], TLS: tls, ClientID: id, Username: o.CloudUsername, Password: o.CloudPassword}, "", func() {}, nil
	}
	b, err := fleetsim.NewBroker(fleetsim.BrokerOptions{Keep: 1})
	if err != nil {
		return nil, "", nil, err
	}
	return Broker{URL: b.URL(), ClientID: "fleetbridge-bench-cloud"}, b.URL(), func() { _ = b.Close() }, nil
}
