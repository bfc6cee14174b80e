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
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/cloud"
	"fleetbridge/bridge/local"
	"fleetbridge/bridge/local/clerk"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/ownership"
	"fleetbridge/bridge/local/registry"
	"fleetbridge/bridge/local/services"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/bridge/sightings"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// Gateway is the whole bridge: the NATS side, one session per Thing, and what lies between.
type Gateway struct {
	// Level, when it is set before Run, follows log.level; without it a reload can't change that.
	Level *slog.LevelVar
	// Console, when it is set before Run, makes what is served at console.listen.
	Console func(*Gateway) Page

	build        Build
	log          *slog.Logger
	catalog      *schemas.Catalog
	retries      *bridge.Retries
	clocks       *bridge.ClockWatch
	metrics      *Metrics
	certificates *certificates
	inbox        *cloud.Budget // of all Things
	commands     *bridge.CommandRoom
	memory       memory

	pages   *http.Server // nil: none
	console consoleListener
	server  *embedded.Server // nil with an external NATS
	clerk   *clerk.Clerk
	nc      *nats.Conn
	store   *local.Store // views and state
	stored  bool         // store is open; only for Run's goroutine
	lanes   bridge.Lanes
	spool   *local.Spool // the lanes with the embedded server; else nil
	desks   desks
	watch   watching

	// Only for Run's goroutine.
	cfg        *Config
	base       *Config                      // cfg without the Things of the registry
	own        map[mapping.Thing]ownSchemas // of the first configuration
	api        *cloud.API                   // nil: none is configured
	files      map[TLS]*tlsFiles
	edges      sync.WaitGroup // goroutines that belong to no Thing
	stopTaking context.CancelFunc
	lasting    context.Context // ends after the Things have ended; for writing their status
	failed     func(error)     // ends the run
	changes    chan change
	reloads    atomic.Uint64 // that somebody asked for
	reread     chan struct{} // room for one: the configuration was taken over since the Thing Types were asked for

	things   atomic.Pointer[[]*thing]
	shown    atomic.Pointer[inForce]
	registry atomic.Pointer[registered] // as it was last read; nil: there is none with the embedded server
	taken    atomic.Pointer[taken]      // nil: nothing of it was
	reloaded atomic.Pointer[Reloaded]
	// Of a cluster, in Run's goroutine: what there is of it, and the shards that are this bridge's.
	ownership *ownership.Ownership
	tenures   tenures
	role      atomic.Pointer[role] // what /readyz says of the cluster; nil: there is none
	probed    atomic.Bool          // a broker took a connection that was none of a Thing

	started   time.Time
	id        string // of this run
	chronicle *chronicle
	history   history
	listening chan struct{}
	listens   sync.Once
	services  atomic.Pointer[services.Service] // set when it listens
	awaited   atomic.Pointer[string]           // before that, with an external NATS: what keeps it from listening
	stopping  atomic.Bool
	natsURL   string
	httpAddr  string
	patient   bool // it has logged that it waits for NATS; only for Run's goroutine
}

// New prepares a gateway from a configuration that Load returned. It compiles the schemas and has no
// other effect.
func New(cfg *Config, build Build, log *slog.Logger) (*Gateway, error) {
	past := newChronicle()
	log = boundLog(past.beside(log))
	catalog, err := schemas.New(schemas.Options{MaxBytes: int(cfg.Limits.Payload), MaxDepth: cfg.Limits.Depth})
	if err != nil {
		return nil, err
	}
	g := &Gateway{cfg: cfg, base: cfg, build: build, log: log, catalog: catalog, retries: &bridge.Retries{Log: log},
		clocks: &bridge.ClockWatch{Log: log, Allowed: cfg.Commands.ClockSkew}, files: map[TLS]*tlsFiles{},
		listening: make(chan struct{}), changes: make(chan change), reread: make(chan struct{}, 1), memory: shareMemory(cfg.Limits.Memory),
		started: time.Now().UTC(), id: instance(), chronicle: past}
	g.inbox, g.commands = g.memory.budget(), bridge.NewCommandRoom(g.memory.inbox)
	if g.own, err = g.loadSchemas(cfg); err != nil {
		return nil, err
	}
	g.shown.Store(&inForce{cfg, g.own})
	g.watch.recorder, g.watch.stopped = sightings.NewRecorder(&g.watch.Watch), make(chan struct{})
	g.metrics = NewMetrics(build, cfg.names())
	g.certificates = newCertificates(g.metrics, log)
	return g, nil
}

// all returns the Things that there are now.
func (g *Gateway) all() []*thing {
	if ts := g.things.Load(); ts != nil {
		return *ts
	}
	return nil
}

// Listening is closed when programs can connect: every stream and service is there.
func (g *Gateway) Listening() <-chan struct{} { return g.listening }

// NATSURL is where programs connect, once Listening is closed.
func (g *Gateway) NATSURL() string { return g.natsURL }

// HTTPAddr is the address of /healthz, /readyz and /metrics, once Listening is closed; empty: none.
func (g *Gateway) HTTPAddr() string { return g.httpAddr }

// Run works until ctx ends; then it finishes what is in flight, leaves what is queued in the store, and
// returns within 10 s. An error before that is one that makes working impossible. The pages are served
// before everything is there, so that a gateway that waits for its NATS server can be asked.
func (g *Gateway) Run(ctx context.Context) error {
	for _, w := range g.cfg.Warnings {
		g.log.Warn(w.String())
	}
	defer g.memory.limitRuntime()()
	g.certificates.use(g.cfg.certificates())
	flush, err := g.startTraces()
	if err != nil {
		return err
	}
	defer flush()
	err = g.open(ctx)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		g.log.Info("stopped before it had started")
		return nil
	}
	return err
}

// open starts the NATS side, and works.
func (g *Gateway) open(ctx context.Context) error {
	if err := g.openNATS(ctx); err != nil {
		return err
	}
	defer g.closeNATS()
	deaf, err := registry.ServeStandings(g.nc, g.subjects(), g.standings)
	if err != nil {
		return err
	}
	defer deaf()
	leave, err := g.openRegistry(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if g.cfg.Cluster.On() {
		return g.join(ctx)
	}
	return g.serve(ctx)
}

// serve makes all that there is for the Things, lets programs in and works. In a cluster the Things come and go while it
// works.
func (g *Gateway) serve(ctx context.Context) (err error) {
	if err := g.openStore(ctx); err != nil {
		return err
	}
	defer g.closeStore()
	if g.api, err = g.newAPI(g.cfg.Fleets); err != nil {
		return err
	}
	made, err := g.makeAll(ctx, g.plans(g.cfg))
	if err != nil {
		return err
	}
	g.things.Store(&made)
	g.openDesks(made)
	service, err := services.Serve(g.nc, &g.desks, g.serviceConfig())
	if err != nil {
		return err
	}
	defer service.Close()
	defer g.closeClerk()
	if g.ownership == nil { // else it comes with a shard
		if err := g.openClerk(); err != nil {
			return err
		}
	}
	hush, err := g.serveBus()
	if err != nil {
		return err
	}
	defer hush()
	if err := g.listen(service); err != nil {
		return err
	}
	if g.ownership != nil {
		g.tenures.begin()
	}
	return g.work(ctx, service)
}

// plans are those of the Things that are this bridge's now.
func (g *Gateway) plans(cfg *Config) (out []plan) {
	for _, t := range cfg.Things {
		if p := newPlan(cfg, t, g.own[mapping.Thing(t.Name)]); g.ours(p.name()) {
			out = append(out, p)
		}
	}
	return out
}

// makeAll makes Things and waits out a NATS server that is away.
func (g *Gateway) makeAll(ctx context.Context, plans []plan) (made []*thing, err error) {
	err = g.await(ctx, func() (err error) {
		made, err = g.maker(g.cfg, g.own, g.api).all(ctx, plans)
		return err
	})
	return made, err
}

func (g *Gateway) serviceConfig() services.Config {
	c := services.Config{Subjects: g.subjects(), Version: g.build.Version, Log: g.log, Run: g.id}
	if g.ownership != nil {
		c.Peers = g.ownership
	}
	return c
}

// openClerk has the requests of users answered.
func (g *Gateway) openClerk() (err error) {
	g.clerk, err = clerk.Serve(g.nc, g.subjects(), g.cfg.LocalUsers(), g.retries, g.log)
	return err
}

func (g *Gateway) closeClerk() {
	if g.clerk != nil {
		g.clerk.Close()
		g.clerk = nil
	}
}

// work runs every part until ctx ends or one of them fails, and carries out reloads one after the other.
// Then it stops everything, in order.
func (g *Gateway) work(ctx context.Context, service *services.Service) error {
	run, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	g.failed = func(err error) {
		if g.ownership != nil && errors.Is(err, bridge.ErrTakenOver) {
			err = fmt.Errorf("%w, which is not in this cluster: give it the same cluster.shards and nats.prefix, or stop it", err)
		}
		if err != nil && run.Err() == nil {
			fail(err)
		}
	}
	if g.server != nil {
		g.server.OnClosed(g.failed)
	} else {
		wire.OnClosed(g.nc, g.failed)
	}
	var over context.CancelFunc
	g.lasting, over = context.WithCancel(context.WithoutCancel(ctx))
	defer over()
	var take context.Context
	take, g.stopTaking = context.WithCancel(context.WithoutCancel(ctx))
	defer g.stopTaking()
	g.edges.Go(func() { g.watchQueues(take) })
	g.edges.Go(func() { g.certificates.follow(take) })
	g.edges.Go(func() { g.fetchTypes(take) })
	for _, t := range g.all() {
		t.start(g.failed)
	}
	g.edges.Go(func() { giveBack(take) })
	for run.Err() == nil {
		select {
		case <-run.Done():
		case c := <-g.changes:
			g.settleTenures(run)
			if c.cfg != nil {
				g.reloads.Add(1)
			}
			c.done <- g.take(c.cfg, func(cfg *Config) error { return g.reload(run, cfg) })
		case t := <-g.tenures.claimed:
			if err := g.claim(run, t); err != nil {
				fail(err)
			}
		case t := <-g.tenures.over:
			g.release(run, t)
		case t := <-g.tenures.left:
			g.gone(run, t)
		}
	}
	defer g.letGo()
	g.ends()
	g.tenures.leaving.Wait() // the stop of all goes on with them
	if err := g.stopAll(service, ctx.Err() == nil); err != nil {
		return err
	}
	if cause := context.Cause(run); ctx.Err() == nil && cause != nil {
		return cause
	}
	last, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	g.closeBooks(last, g.all())
	if g.ownership != nil { // others may go on writing
		return nil
	}
	if err := g.store.Note(last, true); err != nil {
		g.log.Warn("the next start can't tell whether the store is whole", "error", err)
	}
	g.log.Info("stopped")
	return nil
}

// ends ends the connections of people who watch.
func (g *Gateway) ends() {
	g.stopping.Store(true)
	g.console.stop()
	g.watch.stop()
}

// run adds Things to those that run, and starts them.
func (g *Gateway) run(made []*thing) {
	now := slices.Concat(g.all(), made)
	g.things.Store(&now)
	g.openDesks(now)
	for _, t := range made {
		t.start(g.failed)
	}
}

func (g *Gateway) subjects() mapping.Subjects {
	s, err := mapping.NewSubjects(g.Config().NATS.Prefix)
	if err != nil {
		panic("gateway: the configuration was not validated: " + err.Error())
	}
	return s
}

// listen lets programs in.
func (g *Gateway) listen(service *services.Service) error {
	g.natsURL = string(g.cfg.NATS.URL)
	if g.server != nil {
		if err := g.server.SyncTree(); err != nil {
			return err
		}
		g.server.SetThings(g.cfg.names())
		if err := g.server.Listen(); err != nil {
			return err
		}
		g.natsURL = g.server.URL()
	}
	g.services.Store(service) // from now on /healthz is asked in earnest
	g.log.Info("programs can connect", "nats", NATSURL(g.natsURL), "http", g.httpAddr, "things", len(g.all()))
	g.listens.Do(func() { close(g.listening) })
	return nil
}

func (g *Gateway) serveHTTP() error {
	g.metrics.Collect(g)
	if g.cfg.HTTP.Listen == "" {
		return nil
	}
	l, err := net.Listen("tcp", g.cfg.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("http.listen: %w; choose another address, or leave it empty for none", err)
	}
	g.httpAddr, g.pages = l.Addr().String(), newHTTPServer(onlyKnownHosts(g.cfg.HTTP.Listen, NewHandler(g, g.metrics)))
	go func() { _ = g.pages.Serve(l) }() // ends with Close
	return nil
}

// instance makes a name that no other run of a bridge has.
func instance() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
