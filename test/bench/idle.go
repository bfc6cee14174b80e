package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/fleetsim"
	"fleetbridge/internal/bench"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// Contenders of idle, beside the bridge.
const (
	onlyTimer = "a Go program with a timer of 100 ms"
	onlyNATS  = "a NATS server with a JetStream stream, in a program without anything else"
)

// calm is how long the start may have its say: the server gives caches and buffers back after ten seconds.
const calm = 15 * time.Second

// idle prints how often processes wake up while nothing goes on. All run at once, so all have the same neighbours.
func (p plan) idle(ctx context.Context) (err error) {
	const thing = "bench-0000"
	sim, err := fleetsim.New(fleetsim.Options{Things: []string{thing}})
	if err != nil {
		return err
	}
	simulating, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- sim.Run(simulating) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	names := []string{onlyTimer, onlyNATS, synced}
	var processes []*bench.Process
	for i, name := range names {
		s := bench.Setup{Name: name, Broker: sim.BrokerURL(), Things: []mapping.Thing{thing}, StoreDir: filepath.Join(p.dir, fmt.Sprint("store-", i))}
		starting, cancel := context.WithTimeout(ctx, startTime)
		defer cancel()
		process, failure := bench.Start(starting, []string{p.self, workerArg}, s, os.Stderr)
		if failure != nil {
			return failure
		}
		defer func() { err = errors.Join(err, process.Close()) }()
		processes = append(processes, process)
	}
	if err := flow.Sleep(ctx, p.calm); err != nil {
		return err
	}
	spent := make([][]bench.Usage, len(names))
	for range p.runs {
		before := make([]bench.Usage, len(names))
		for i, process := range processes {
			if before[i], err = process.Usage(); err != nil {
				return err
			}
		}
		if err := flow.Sleep(ctx, p.duration); err != nil {
			return err
		}
		for i, process := range processes {
			after, err := process.Usage()
			if err != nil {
				return err
			}
			spent[i] = append(spent[i], after.Since(before[i]))
		}
	}
	p.printf("At rest, medians of %d times %v; one Thing, connected, no program; everything on the same %s.\n\n", p.runs, p.duration, machine())
	t := table{head: []string{"", "voluntary context switches a second", "of a core"}}
	for i, name := range names {
		seconds := p.duration.Seconds()
		t.add(name, fmt.Sprintf("%.0f", median(spent[i], func(u bench.Usage) float64 { return float64(u.Switches) / seconds })),
			fmt.Sprintf("%.2f %%", median(spent[i], func(u bench.Usage) float64 { return 100 * u.CPU.Seconds() / seconds })))
	}
	p.printf("%s", t)
	return nil
}

// resting is a contender that does nothing.
type resting struct{ end func() }

func (r resting) URL() string  { return "" }
func (r resting) HTTP() string { return "" }
func (r resting) Close() error { r.end(); return nil }

func startTimer() bench.Contender {
	t := time.NewTicker(100 * time.Millisecond)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-t.C:
			case <-stop:
				return
			}
		}
	}()
	return resting{func() { close(stop); t.Stop() }}
}

func startNATS(ctx context.Context, s bench.Setup) (bench.Contender, error) {
	n, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: s.StoreDir, NoSigs: true})
	if err != nil {
		return nil, err
	}
	n.Start()
	r := resting{func() { n.Shutdown(); n.WaitForShutdown() }}
	nc, err := nats.Connect("", nats.InProcessServer(n))
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	js, err := jetstream.New(nc)
	if err == nil {
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}
