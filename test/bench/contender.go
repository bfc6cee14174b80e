package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"fleetbridge/fleetsim"
	"fleetbridge/internal/bench"
	"fleetbridge/mapping"
)

// Contenders.
const (
	direct     = "no bridge: publisher → mosquitto → subscriber"
	mosquittos = "mosquitto's bridge: mosquitto → mosquitto"
	stock      = "pass-through, stock paho"
	tuned      = "pass-through, tuned paho"
	synced     = "fleetbridge, validated and synced"
	relaxed    = "fleetbridge, validated, sync: 1s"
)

// Brokers.
const (
	onMosquitto = "mosquitto"
	onFree      = "a broker that costs nothing"
)

// trial is one measurement.
type trial struct {
	contender, broker string
	load              bench.Load
	profile           string
}

// startTime is how long a contender may take until it is ready.
const startTime = 2 * time.Minute

func (p plan) load(k bench.Kind, things int) bench.Load {
	l := bench.Load{Kind: k, Size: p.size, Duration: p.duration, Warmup: p.warmup}
	for i := range things {
		l.Things = append(l.Things, mapping.Thing(fmt.Sprintf("bench-%04d", i)))
	}
	return l
}

// measure runs a trial on fresh brokers and a fresh store.
func (p plan) measure(ctx context.Context, t trial) (r bench.Result, err error) {
	b, err := p.openBrokers(ctx, t)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if t.contender == direct || t.contender == mosquittos {
		return bench.Measure(ctx, t.load, bench.Direct{Near: bench.Broker{URL: b.near}, Far: bench.Broker{URL: b.far}}, bench.Gauges{})
	}
	store, err := os.MkdirTemp(p.dir, "store-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(store)) }()
	s := bench.Setup{Name: t.contender, Broker: b.far, Things: t.load.Things, StoreDir: filepath.Join(store, "store")}
	if t.contender == relaxed {
		s.Sync = "1s"
	}
	starting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	process, err := bench.Start(starting, []string{p.self, workerArg}, s, os.Stderr)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, process.Close()) }()
	if t.profile != "" {
		end, err := process.Profile(t.profile)
		if err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, end()) }()
	}
	path := bench.Bridge{NATS: process.URL(), Prefix: "fleets", Cloud: b.cloud, Answers: true, Plain: t.contender == stock || t.contender == tuned}
	r, err = bench.Measure(ctx, t.load, path, bench.Gauges{Subject: process})
	if err == nil && (t.contender == synced || t.contender == relaxed) {
		err = r.Sound()
	}
	return r, err
}

// brokers are what a trial runs against. A contender connects to far; near is the one that mosquitto's
// bridge connects to far, else the same.
type brokers struct {
	near, far string
	cloud     bench.Cloud
	undo      []func() error
}

func (b *brokers) close() error {
	var errs []error
	for i := len(b.undo) - 1; i >= 0; i-- {
		errs = append(errs, b.undo[i]())
	}
	return errors.Join(errs...)
}

func (p plan) openBrokers(ctx context.Context, t trial) (*brokers, error) {
	b := &brokers{}
	if t.broker == onFree {
		free, err := bench.NewFreeBroker()
		if err != nil {
			return nil, err
		}
		b.far, b.near, b.cloud = free.URL(), free.URL(), free
		b.undo = append(b.undo, func() error { free.Close(); return nil })
		return b, nil
	}
	lines := []string{fmt.Sprintf("max_inflight_messages %d", p.inflight)}
	far, err := fleetsim.NewMosquitto(ctx, fleetsim.MosquittoOptions{Lines: lines})
	if err != nil {
		return nil, err
	}
	b.undo = append(b.undo, far.Close)
	b.far, b.near = far.URL(), far.URL()
	b.cloud = bench.Broker{URL: far.URL(), ClientID: "bench-cloud"}
	if t.contender != mosquittos {
		return b, nil
	}
	near, err := fleetsim.NewMosquitto(ctx, fleetsim.MosquittoOptions{Lines: append(lines, bridgeLines(far.URL(), t.load.Kind)...)})
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	b.undo = append(b.undo, near.Close)
	b.near = near.URL()
	return b, b.awaitBridge(ctx, t.load)
}
