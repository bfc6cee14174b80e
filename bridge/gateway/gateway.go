package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// Gateway is the whole bridge: the NATS side, one session per Thing, and what lies between.
type Gateway struct {
	cfg   *Config
	build Build
	log   *slog.Logger

	catalog *schemas.Catalog
	own     map[mapping.Thing]*schemas.ThingSchemas
	metrics *Metrics

	server *local.Server // nil with an external NATS
	nc     *nats.Conn
	store  *local.Store
	api    bridge.ShadowAPI
	things []*thing

	listening chan struct{}
	natsURL   string
	httpAddr  string
}

// How long a stop may take, in its parts: requests and commands that programs wait for, what is in
// flight to the broker, everything else, and what the store has to write down. The contract allows 10 s.
const (
	finishTime = 4 * time.Second
	drainTime  = 2 * time.Second
	stopTime   = 2 * time.Second
	closeTime  = time.Second
)

// New prepares a gateway from a configuration that Load returned. It compiles the schemas and has no
// other effect.
func New(cfg *Config, build Build, log *slog.Logger) (*Gateway, error) {
	catalog, err := schemas.New(schemas.Options{MaxBytes: int(cfg.Limits.Payload), MaxDepth: cfg.Limits.Depth})
	if err != nil {
		return nil, err
	}
	g := &Gateway{cfg: cfg, build: build, log: log, catalog: catalog, own: map[mapping.Thing]*schemas.ThingSchemas{}, listening: make(chan struct{})}
	for _, t := range cfg.Things {
		if t.SchemaDir == "" {
			continue
		}
		own, err := catalog.LoadThing(t.SchemaDir)
		if err != nil {
			return nil, fmt.Errorf("schemas of thing %q: %w", t.Name, err)
		}
		g.own[mapping.Thing(t.Name)] = own
	}
	g.metrics = NewMetrics(build, g.names())
	return g, nil
}

// Listening is closed when programs can connect: every stream and service is there.
func (g *Gateway) Listening() <-chan struct{} { return g.listening }

// NATSURL is where programs connect, once Listening is closed.
func (g *Gateway) NATSURL() string { return g.natsURL }

// HTTPAddr is the address of /healthz, /readyz and /metrics, once Listening is closed; empty: none.
func (g *Gateway) HTTPAddr() string { return g.httpAddr }

// Run works until ctx ends; then it finishes what is in flight, leaves what is queued in the store, and
// returns within 10 s. An error before that is one that makes working impossible.
func (g *Gateway) Run(ctx context.Context) (err error) {
	for _, w := range g.cfg.Warnings {
		g.log.Warn(w.String())
	}
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	if err := g.openNATS(ctx); err != nil {
		return err
	}
	defer g.closeNATS()
	if g.api, err = g.newAPI(); err != nil {
		return err
	}
	if err := g.makeThings(ctx); err != nil {
		return err
	}
	services, err := local.Serve(g.nc, g.subjects(), g.requests(), g.build.Version)
	if err != nil {
		return err
	}
	defer services.Close()
	http, err := g.serveHTTP()
	if err != nil {
		return err
	}
	defer http.Close()
	if err := g.listen(); err != nil {
		return err
	}
	return g.work(ctx, work, stopWork, services)
}

// work runs every part until ctx ends or one of them fails. Then it stops in this order: nothing new is
// begun for programs and what they wait for is finished, while everything still flows; nothing is
// taken from the sources any more and what is in flight is finished; the rest.
func (g *Gateway) work(ctx, work context.Context, stopWork func(), services *local.Service) error {
	run, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	take, stopTaking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTaking()
	var edges, pumps sync.WaitGroup
	failed := func(err error) {
		if err != nil && run.Err() == nil {
			fail(err)
		}
	}
	for _, t := range g.things {
		for _, q := range t.queues {
			edges.Go(func() { failed(q.Run(take)) })
		}
		edges.Go(func() { failed(t.session.Run(work)) })
		pumps.Go(func() { failed(t.bridge.Run(take, work)) })
	}
	edges.Go(func() { g.watchQueues(take) })
	if g.server != nil {
		edges.Go(func() { failed(g.store.Guard(take, g.cfg.NATS.Embedded.StoreDir)) })
	}

	<-run.Done()
	g.log.Info("stopping")
	if ctx.Err() != nil { // nothing is broken
		g.finish(services)
	}
	stopTaking()
	for _, t := range g.things {
		t.session.StopTaking()
	}
	wait := drainTime
	if !g.anyConnected() {
		wait = 0 // what is handed over waits for a link; the store has it
	}
	inTime(wait, pumps.Wait)
	stopWork()
	if !inTime(stopTime, func() { pumps.Wait(); edges.Wait(); g.finishCommands() }) {
		return errors.New("some parts did not stop in time; nothing is lost, what was queued is stored")
	}
	if cause := context.Cause(run); ctx.Err() == nil && cause != nil {
		return cause
	}
	g.closeBooks(context.WithoutCancel(ctx))
	g.log.Info("stopped")
	return nil
}

// closeBooks makes sure that the store knows what was settled, and what it holds.
func (g *Gateway) closeBooks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	var all sync.WaitGroup
	for _, t := range g.things {
		for _, q := range t.queues {
			all.Go(func() {
				if err := q.Flush(ctx); err != nil {
					g.log.Warn("some messages that the broker has may be sent again after the next start", "thing", string(t.bridge.Name), "error", err)
				}
			})
		}
	}
	all.Wait()
	if err := g.store.Note(ctx, true); err != nil {
		g.log.Warn("the next start can't tell whether the store is whole", "error", err)
	}
}

// finish lets requests and commands end that programs or the cloud wait for.
func (g *Gateway) finish(services *local.Service) {
	ctx, cancel := context.WithTimeout(context.Background(), finishTime)
	defer cancel()
	inTime(finishTime, func() {
		services.Drain(ctx)
		g.finishCommands()
	})
}

func (g *Gateway) finishCommands() {
	var all sync.WaitGroup
	for _, t := range g.things {
		all.Go(t.bridge.Finish)
	}
	all.Wait()
}

// inTime tells whether f ended in this time; else f goes on by itself.
func inTime(d time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
		return true
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

func (g *Gateway) subjects() mapping.Subjects {
	s, err := mapping.NewSubjects(g.cfg.NATS.Prefix)
	if err != nil {
		panic("gateway: the configuration was not validated: " + err.Error())
	}
	return s
}

func (g *Gateway) names() []mapping.Thing {
	names := make([]mapping.Thing, len(g.cfg.Things))
	for i, t := range g.cfg.Things {
		names[i] = mapping.Thing(t.Name)
	}
	return names
}

// openNATS starts the embedded server or dials the external one, and opens the store on it.
func (g *Gateway) openNATS(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			g.closeNATS()
		}
	}()
	n := g.cfg.NATS
	if n.URL == "" {
		if g.server, err = local.StartServer(g.serverConfig()); err != nil {
			return err
		}
		if g.nc, err = g.server.Connect("fleetbridge"); err != nil {
			return err
		}
	} else {
		dial, err := n.dial()
		if err != nil {
			return err
		}
		dial.Log = g.log
		if g.nc, err = g.dial(ctx, dial); err != nil {
			return err
		}
	}
	g.store, err = local.Open(ctx, g.nc, local.StoreConfig{
		Subjects: g.subjects(), Things: g.names(), Replicas: n.Replicas, Window: window,
		Relaxed:      g.server != nil && !n.Embedded.Sync.Always,
		Up:           local.Limits{MaxBytes: int64(n.Up.MaxBytes)},
		Down:         local.Limits{MaxBytes: int64(n.Down.MaxBytes), MaxAge: n.Down.MaxAge},
		ExecutionTTL: max(g.cfg.MQTT.SessionExpiry, 168*time.Hour),
	}, g.log)
	return err
}

func (g *Gateway) serverConfig() local.ServerConfig {
	e := g.cfg.NATS.Embedded
	c := local.ServerConfig{
		Subjects: g.subjects(), Listen: e.Listen, StoreDir: e.StoreDir, MaxPayload: g.maxPacket() + natsHeadroom, Log: g.log,
		// An interval relaxes telemetry alone; see StoreConfig.Relaxed.
		SyncAlways: true, SyncInterval: e.Sync.Interval,
	}
	for _, u := range g.cfg.Local.Users {
		user := local.User{Name: u.Name, Password: string(u.Password), NKey: u.NKey, Allow: u.Allow}
		for _, t := range u.Things {
			user.Things = append(user.Things, mapping.Thing(t))
		}
		if len(user.Things) == 0 {
			user.Things = g.names()
		}
		c.Users = append(c.Users, user)
	}
	return c
}

func (g *Gateway) closeNATS() {
	if g.store != nil {
		g.store.Close()
	}
	if g.nc != nil {
		g.nc.Close()
	}
	if g.server != nil {
		g.server.Shutdown()
	}
}

// listen lets programs in.
func (g *Gateway) listen() error {
	g.natsURL = string(g.cfg.NATS.URL)
	if g.server != nil {
		if err := g.server.SyncTree(); err != nil {
			return err
		}
		if err := g.server.Listen(); err != nil {
			return err
		}
		g.natsURL = g.server.URL()
	}
	g.log.Info("programs can connect", "nats", NATSURL(g.natsURL), "http", g.httpAddr, "things", len(g.things))
	close(g.listening)
	return nil
}

func (g *Gateway) requests() *bridge.Requests {
	r := &bridge.Requests{Things: map[mapping.Thing]*bridge.Desk{}, Timeout: g.cfg.Requests.Timeout}
	for _, t := range g.things {
		r.Things[t.bridge.Name] = t.bridge.Desk
	}
	return r
}

func (g *Gateway) serveHTTP() (*http.Server, error) {
	g.metrics.Collect(g)
	srv := &http.Server{Handler: NewHandler(g, g.metrics), ReadHeaderTimeout: 5 * time.Second}
	if g.cfg.HTTP.Listen == "" {
		return srv, nil
	}
	l, err := net.Listen("tcp", g.cfg.HTTP.Listen)
	if err != nil {
		return nil, fmt.Errorf("http.listen: %w; choose another address, or leave it empty for none", err)
	}
	g.httpAddr = l.Addr().String()
	go func() { _ = srv.Serve(l) }() // ends with Close
	return srv, nil
}

// instance makes a name that no other run of a bridge has.
func instance() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
