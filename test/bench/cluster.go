package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/ownership"
	"fleetbridge/fleetsim"
	"fleetbridge/internal/bench"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// natsCluster is the contender that is three NATS servers, which sync as they do by default.
const natsCluster = "three NATS servers"

const (
	scaleShards = 64
	scaleStart  = 15 * time.Minute // for the Things of all bridges to be connected
)

func startNATSCluster(_ context.Context, s bench.Setup) (bench.Contender, error) {
	var addresses, routes []string
	for range 6 {
		a, err := fleetsim.FreeAddress()
		if err != nil {
			return nil, err
		}
		if addresses = append(addresses, a); len(addresses) > 3 {
			routes = append(routes, "nats://"+a)
		}
	}
	c := natsServers{}
	for i := range 3 {
		o := &server.Options{ServerName: fmt.Sprint("n", i+1), JetStream: true, StoreDir: filepath.Join(s.StoreDir, fmt.Sprint(i)), NoSigs: true,
			Cluster: server.ClusterOpts{Name: "bench"}, Routes: server.RoutesFromStr(strings.Join(routes, ","))}
		if _, err := fmt.Sscanf(strings.Replace(addresses[i], ":", " ", 1), "%s %d", &o.Host, &o.Port); err != nil {
			return nil, err
		}
		if _, err := fmt.Sscanf(strings.Replace(addresses[3+i], ":", " ", 1), "%s %d", &o.Cluster.Host, &o.Cluster.Port); err != nil {
			return nil, err
		}
		n, err := server.NewServer(o)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		n.Start()
		c = append(c, n)
	}
	for _, n := range c {
		if !n.ReadyForConnections(shakeTime) {
			return nil, errors.Join(errors.New("a NATS server did not start"), c.Close())
		}
	}
	return c, nil
}

type natsServers []*server.Server

func (c natsServers) URL() string {
	var out []string
	for _, n := range c {
		out = append(out, n.ClientURL())
	}
	return strings.Join(out, ",")
}

func (c natsServers) HTTP() string { return "" }

func (c natsServers) Close() error {
	for _, n := range c {
		n.Shutdown()
		n.WaitForShutdown()
	}
	return nil
}

// scale is a cluster of bridges with many Things.
type scale struct {
	plan
	things  []mapping.Thing
	free    *bench.FreeBroker
	servers *bench.Process
	bridges []*bench.Process
	nc      *nats.Conn
	undo    []func() error
}

// scaled is what a cluster was found to be.
type scaled struct {
	start       time.Duration // until all Things were connected
	most        int           // Things of the bridge that has the most
	memory      float64       // bytes of the bridges
	rest        bench.Usage   // of the bridges, in the time of one measurement
	serversRest bench.Usage
	rate        float64       // messages a second
	each        time.Duration // processor time of the bridges for one
	serversEach time.Duration
	takeover    time.Duration // from the death of one until all Things were connected
	loaded      bench.Result  // of the load meanwhile
}

// cluster compares one bridge that has all Things with three that share them, and kills one of the three.
func (p plan) cluster(ctx context.Context) error {
	var found []scaled
	for _, bridges := range []int{1, 3} {
		s, err := p.scale(ctx, bridges)
		if err != nil {
			return err
		}
		found = append(found, s)
	}
	one, three := found[0], found[1]
	p.printf("%s Things, %d shards, three NATS servers (R3, no `sync_interval`), a broker that costs nothing, events of %d bytes, medians of %d times %v; each bridge a process, everything on the same %s.\n\n",
		grouped(float64(p.things)), scaleShards, p.size, p.runs, p.duration, machine())
	t := table{head: []string{"", "one bridge", "three bridges", "ratio"}}
	row := func(what, format string, of func(scaled) float64) {
		t.add(what, fmt.Sprintf(format, of(one)), fmt.Sprintf(format, of(three)), ratio(of(three), of(one)))
	}
	row("messages a second", "%.0f", func(s scaled) float64 { return s.rate })
	row("processor time of the bridges for a message, µs", "%.1f", func(s scaled) float64 { return float64(s.each.Nanoseconds()) / 1e3 })
	row("of the NATS servers, µs", "%.1f", func(s scaled) float64 { return float64(s.serversEach.Nanoseconds()) / 1e3 })
	row("memory of the bridges for a Thing, KiB", "%.0f", func(s scaled) float64 { return s.memory / float64(p.things) / 1024 })
	row("at rest: bridges, of a core, %", "%.1f", func(s scaled) float64 { return 100 * s.rest.CPU.Seconds() / p.duration.Seconds() })
	row("at rest: NATS servers, of a core, %", "%.1f", func(s scaled) float64 { return 100 * s.serversRest.CPU.Seconds() / p.duration.Seconds() })
	row("from the start until all Things are connected, s", "%.1f", func(s scaled) float64 { return s.start.Seconds() })
	row("Things of the bridge that has the most, by the mean", "%.2f", func(s scaled) float64 { return s.balance(p.things) })
	p.printf("%s\n", t)
	l := three.loaded
	p.printf("One of three bridges was killed under %.0f messages a second: all Things were connected again after %.1f s. Of %d messages %d were lost and %d out of order; %d came twice.\n",
		l.Load.Rate, three.takeover.Seconds(), l.Messages, l.Lost+l.Failed, l.Disorder, l.Repeated)
	if l.Lost+l.Failed+l.Disorder > 0 {
		return errors.New("messages were lost or out of order")
	}
	return nil
}

// balance is what the bridge with the most Things has, divided by the mean.
func (s scaled) balance(things int) float64 {
	if s.most == things {
		return 1
	}
	return 3 * float64(s.most) / float64(things)
}

func (p plan) scale(ctx context.Context, bridges int) (out scaled, err error) {
	s := &scale{plan: p}
	defer func() {
		for i := len(s.undo) - 1; i >= 0; i-- {
			err = errors.Join(err, s.undo[i]())
		}
	}()
	if out.start, err = s.open(ctx, bridges); err != nil {
		return out, err
	}
	if err := flow.Sleep(ctx, p.calm); err != nil {
		return out, err
	}
	members, err := s.members(ctx)
	if err != nil {
		return out, err
	}
	for _, m := range members {
		out.most = max(out.most, m.Things)
	}
	if out.rest, out.serversRest, err = s.spent(func() error { return flow.Sleep(ctx, p.duration) }); err != nil {
		return out, err
	}
	out.memory = float64(out.rest.Memory)
	if err := s.throughput(ctx, &out); err != nil || bridges == 1 {
		return out, err
	}
	return out, s.kill(ctx, &out)
}

// open starts everything, and tells how long it took until all Things were connected.
func (s *scale) open(ctx context.Context, bridges int) (took time.Duration, err error) {
	if s.free, err = bench.NewFreeBroker(); err != nil {
		return 0, err
	}
	s.undo = append(s.undo, func() error { s.free.Close(); return nil })
	for i := range s.plan.things {
		s.things = append(s.things, mapping.Thing(fmt.Sprintf("bench-%05d", i)))
	}
	dir, err := os.MkdirTemp(s.dir, "cluster-")
	if err != nil {
		return 0, err
	}
	s.undo = append(s.undo, func() error { return os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(ctx, scaleStart)
	defer cancel()
	start := func(setup bench.Setup) (*bench.Process, error) {
		setup.StoreDir = filepath.Join(dir, setup.Name+setup.ID)
		x, err := bench.Start(ctx, []string{s.self, workerArg}, setup, os.Stderr)
		if err == nil {
			s.undo = append(s.undo, x.Close)
		}
		return x, err
	}
	if s.servers, err = start(bench.Setup{Name: natsCluster}); err != nil {
		return 0, err
	}
	began := time.Now()
	type started struct {
		x   *bench.Process
		err error
	}
	coming := make(chan started, bridges)
	for i := range bridges {
		setup := bench.Setup{Broker: s.free.URL(), Things: s.things, NATS: s.servers.URL(), ID: fmt.Sprint("gw-", i+1), Shards: scaleShards, StoreDir: filepath.Join(dir, fmt.Sprint("gw-", i+1))}
		go func() {
			x, err := bench.Start(ctx, []string{s.self, workerArg}, setup, io.Discard) // of each Thing it says that the cloud does not answer jobs/get
			coming <- started{x, err}
		}()
	}
	for range bridges {
		b := <-coming
		if b.err != nil {
			err = errors.Join(err, b.err)
			continue
		}
		s.bridges = append(s.bridges, b.x)
		s.undo = append(s.undo, func() error { _ = b.x.Close(); return nil }) // one is killed
	}
	if err != nil {
		return 0, err
	}
	if s.nc, err = nats.Connect(s.servers.URL()); err != nil {
		return 0, err
	}
	s.undo = append(s.undo, func() error { s.nc.Close(); return nil })
	err = s.connected(ctx, bridges)
	return time.Since(began), err
}

func (s *scale) members(ctx context.Context) ([]ownership.Member, error) {
	subjects, err := mapping.NewSubjects("fleets")
	if err != nil {
		return nil, err
	}
	return ownership.Members(ctx, s.nc, subjects)
}

// connected waits until so many bridges have all Things connected.
func (s *scale) connected(ctx context.Context, bridges int) error {
	for {
		things, connected, active := 0, 0, 0
		members, err := s.members(ctx)
		for _, m := range members {
			if m.State == "active" {
				active, things, connected = active+1, things+m.Things, connected+m.Connected
			}
		}
		if err == nil && active == bridges && things == s.plan.things && connected == things {
			return nil
		}
		if flow.Sleep(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("%d bridges have %d Things, %d connected: %w", active, things, connected, errors.Join(err, ctx.Err()))
		}
	}
}

// spent tells what bridges and servers spend on something.
func (s *scale) spent(do func() error) (bridges, servers bench.Usage, err error) {
	all := func() (sum, servers bench.Usage, err error) {
		for _, b := range s.bridges {
			u, failed := b.Usage()
			sum.CPU, sum.Memory, sum.Switches, err = sum.CPU+u.CPU, sum.Memory+u.Memory, sum.Switches+u.Switches, errors.Join(err, failed)
		}
		servers, failed := s.servers.Usage()
		return sum, servers, errors.Join(err, failed)
	}
	b, n, err := all()
	if err != nil {
		return bridges, servers, err
	}
	if err := do(); err != nil {
		return bridges, servers, err
	}
	b2, n2, err := all()
	return b2.Since(b), n2.Since(n), err
}

func (s *scale) path() bench.Bridge {
	return bench.Bridge{NATS: s.servers.URL(), Prefix: "fleets", Cloud: s.free}
}

func (s *scale) throughput(ctx context.Context, out *scaled) error {
	var rates, each, serversEach []float64
	for range s.runs {
		l := bench.Load{Kind: bench.Up, Things: s.things, Size: s.size, Duration: s.duration, Warmup: s.warmup}
		var r bench.Result
		bridges, servers, err := s.spent(func() (err error) {
			r, err = bench.Measure(ctx, l, s.path(), bench.Gauges{})
			return errors.Join(err, r.Sound())
		})
		if err != nil {
			return err
		}
		all := r.Rate() * (l.Duration + l.Warmup).Seconds() // the warm-up is spent, too
		rates = append(rates, r.Rate())
		each, serversEach = append(each, float64(bridges.CPU)/all), append(serversEach, float64(servers.CPU)/all)
	}
	same := func(f float64) float64 { return f }
	out.rate, out.each, out.serversEach = median(rates, same), time.Duration(median(each, same)), time.Duration(median(serversEach, same))
	return nil
}

// kill kills a bridge under a tenth of what the cluster can do.
func (s *scale) kill(ctx context.Context, out *scaled) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		l := bench.Load{Kind: bench.Up, Things: s.things, Size: s.size, Rate: max(out.rate/10, 1), Duration: time.Minute}
		var err error
		out.loaded, err = bench.Measure(ctx, l, s.path(), bench.Gauges{})
		done <- err
	}()
	if err := flow.Sleep(ctx, 5*time.Second); err != nil {
		return err
	}
	began := time.Now()
	if err := s.bridges[0].Kill(); err != nil {
		return err
	}
	err := s.connected(ctx, len(s.bridges)-1)
	out.takeover = time.Since(began)
	return errors.Join(err, <-done)
}
