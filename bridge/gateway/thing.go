package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/cloud"
	"fleetbridge/bridge/local"
	"fleetbridge/bridge/local/ownership"
	"fleetbridge/bridge/local/services"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

const (
	// window is how many messages of a Thing and kind are on their way to the broker at once. At a
	// round trip of 50 ms it allows 10,000 a second.
	window = 512
	// reconnectMax bounds the pause between attempts to connect: a link that comes back should be used
	// within seconds, and a thousand Things at this pace are no load for a broker that comes back.
	reconnectMax = 8 * time.Second
	// packetHeadroom is what a packet may have beyond the largest payload, for the topic and
	// properties; and room for a payload that is a little too large, which becomes a dead letter
	// instead of a lost connection.
	packetHeadroom = 1 << 20
	// natsHeadroom is what a message has beyond the packet it came in: the headers that say where it
	// came from, and why it is a dead letter.
	natsHeadroom = 64 << 10
)

// thing is a Thing with its edges, which starts and stops by itself.
type thing struct {
	plan    plan
	bridge  *bridge.Thing
	session *cloud.Session
	lanes   bridge.ThingLanes
	tally   *tally

	take, work   context.Context
	noMore, over context.CancelFunc
	pumps, edges sync.WaitGroup
}

// start runs the Thing until it is stopped. failed is called with an error after which the gateway can't go on.
func (t *thing) start(failed func(error)) {
	t.edges.Go(func() { failed(t.lanes.Run(t.take)) })
	t.edges.Go(func() { failed(t.session.Run(t.work)) })
	t.pumps.Go(func() { failed(t.bridge.Run(t.take, t.work)) })
}

// stopTaking stops taking messages from programs and from the broker.
func (t *thing) stopTaking() {
	t.noMore()
	t.session.StopTaking()
}

// stopWork ends the session, with DISCONNECT 0x00, and all other work.
func (t *thing) stopWork() { t.over() }

// maker makes Things of one configuration. Nothing that it makes connects before it is started.
type maker struct {
	g        *Gateway
	session  cloud.Config
	ports    bridge.Ports
	maxBytes int
	maxAge   time.Duration
	patience time.Duration // requests.timeout
	own      map[mapping.Thing]ownSchemas
}

func (g *Gateway) maker(c *Config, own map[mapping.Thing]ownSchemas, api *cloud.API) maker {
	m := c.MQTT
	out := maker{g: g, own: own, maxBytes: int(c.Limits.Payload), maxAge: c.NATS.Up.MaxAge, patience: c.Requests.Timeout, ports: g.ports(api), session: cloud.Config{
		KeepAlive: m.KeepAlive, SessionExpiry: m.SessionExpiry, AckTimeout: m.AckTimeout, ConnectTimeout: m.ConnectTimeout,
		AllowQoS0:      m.AllowQoS0,
		ReceiveMaximum: uint16(m.ReceiveMaximum), Compact: m.Subscriptions == SubscriptionsCompact,
		Backoff:        cloud.Backoff{Max: reconnectMax},
		MaxPublishRate: m.MaxPublishRate, Window: window, MaxPacket: g.maxPacket(),
		MaxPayload: int(c.Limits.Payload), Memory: g.inbox,
	}}
	for _, s := range m.Server {
		u, err := url.Parse(s)
		if err != nil {
			panic("gateway: the configuration was not validated: " + err.Error())
		}
		out.session.Servers = append(out.session.Servers, u)
	}
	return out
}

// ports are the parts that Things share.
func (g *Gateway) ports(api *cloud.API) bridge.Ports {
	out := bridge.Ports{
		Graveyard: g.store, Outbox: g.lanes, Handlers: services.NewHandlers(g.nc, g.subjects(), g.server.NATS(), g.store.Replies()),
		MaxRecord: int(g.nc.MaxPayload()), Commands: g.commands, Retries: g.retries, Watch: &g.watch.Watch, Clocks: g.clocks,
		Catalog: g.catalog, Observer: g.metrics, Silent: g.metrics.Silent, Now: time.Now, Log: g.log,
	}
	if api != nil {
		out.API = api
	}
	return out
}

// books are what is written of a Thing: the store, or in a cluster a share of it.
type books interface {
	Down() bridge.Sink
	bridge.Archive
	Shadow() bridge.ShadowView
	Status() bridge.StatusView
	Executions() bridge.State
	Leases() bridge.State
	Marks() bridge.State
}

// together is how many Things are made at a time: with an external server each waits for some answers.
const together = 16

// all makes Things, side by side. With an error it returns those that it made or began to make. Those that are another
// bridge's by now it leaves out.
func (m maker) all(ctx context.Context, plans []plan) ([]*thing, error) {
	for _, p := range plans {
		m.g.clientFiles(m.files(p)) // from here on they are there for all
	}
	making, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	all := flow.Each(plans, together, func(p plan) *thing {
		if making.Err() != nil {
			return nil
		}
		t, err := m.ours(making, p)
		if err != nil {
			fail(err)
		}
		return t
	})
	return slices.DeleteFunc(all, func(t *thing) bool { return t == nil }), context.Cause(making)
}

// ours is make, but returns nothing, and no error, when the Thing is another bridge's by now.
func (m maker) ours(ctx context.Context, p plan) (*thing, error) {
	t, err := m.make(ctx, p)
	if !m.g.lost(p.name(), err) {
		return t, err
	}
	if t != nil {
		m.g.forget(ctx, []*thing{t})
	}
	return nil, nil
}

// files are those that a Thing shows the broker.
func (m maker) files(p plan) TLS { return p.thing.TLS.withTLS(p.mqtt.TLS) }

// make takes the Thing's lanes over and loads what the store knows about it. Beside an error it returns a Thing that has only
// the lanes that were taken over.
func (m maker) make(ctx context.Context, p plan) (*thing, error) {
	g, name, t := m.g, p.name(), &thing{plan: p, tally: &tally{next: m.ports.Observer}}
	sc := m.session
	sc.ClientID, sc.Username, sc.Password = p.thing.ClientID, p.thing.Username, string(p.thing.Password)
	sc.TLS = g.clientFiles(m.files(p)).config
	ports, books := m.ports, books(g.store)
	if g.ownership != nil {
		tenure := g.tenures.of[g.ownership.ShardOf(name)]
		if tenure == nil {
			return nil, ownership.ErrLost
		}
		books, sc.Permit = tenure.share, tenure.Verified
	}
	sc.Filters = newFilterMemory(books.Marks(), sc.ClientID)
	t.session = cloud.NewSession(name, sc, cloud.Hooks{
		State: func(s cloud.State) { g.stateChanged(t, s) },
		Ready: func(ctx context.Context, present bool) { t.bridge.Ready(ctx, present) },
	}, g.log)
	ports.Cloud, ports.Observer = t.session, t.tally
	ports.Down, ports.Archive, ports.Shadows, ports.Statuses = books.Down(), books, books.Shadow(), books.Status()
	ports.Executions, ports.Leases, ports.Marks = books.Executions(), books.Leases(), books.Marks()
	var err error
	if t.lanes, err = g.lanes.TakeOver(ctx, name); err != nil {
		return t, err
	}
	ports.Lanes = map[mapping.Kind]bridge.Source{}
	for _, k := range mapping.Kinds {
		ports.Lanes[k] = t.lanes.Lane(k)
	}
	cmd := p.commands
	t.bridge, err = bridge.NewThing(ctx, bridge.ThingConfig{
		Thing: name, Own: m.own[name].schemas, Merged: p.shadow.Report == ReportMerged, MaxBytes: m.maxBytes, Instance: instance(),
		MaxAge: m.maxAge, Patience: m.patience,
		Commands: bridge.CommandPolicy{Reject: cmd.NoHandler == NoHandlerReject, HandlerWait: cmd.HandlerWait, DefaultTTL: cmd.DefaultTTL, ClockSkew: cmd.ClockSkew, Once: g.ownership != nil},
	}, ports)
	t.work, t.over = context.WithCancel(context.WithoutCancel(ctx))
	t.take, t.noMore = context.WithCancel(t.work)
	return t, err
}

// clientFiles returns one tlsFiles for all that use the same files. Only for Run's goroutine.
func (g *Gateway) clientFiles(names TLS) *tlsFiles {
	if g.files[names] == nil {
		g.files[names] = &tlsFiles{names: names, build: clientConfig, log: g.log}
	}
	return g.files[names]
}

// stateChanged carries a session's state into the Thing's status and the metrics.
func (g *Gateway) stateChanged(t *thing, s cloud.State) {
	g.metrics.Connected(t.bridge.Name, s.Connected)
	t.bridge.Connected(g.lasting, func(status *bridge.Status) {
		status.Connected, status.Subscribed, status.SessionPresent = s.Connected, s.Subscribed, s.SessionPresent
		status.Since, status.LastError = s.Since.UTC(), s.LastError
	})
}

// maxPacket is the largest packet that a broker may send.
func (g *Gateway) maxPacket() int { return int(g.cfg.Limits.Payload) + packetHeadroom }

// queueInterval is how often the number of waiting messages in the status is brought up to date.
// While nothing moves it is looked at only for the history's samples. A server in the process says what moves; what it can't say is
// that it does not answer, or that a stream was taken out from under it.
const queueInterval = 2 * time.Second

// watchQueues keeps the number of queued messages in the status up to date, with one question to the store for all Things. It
// also notes for the next start how far the streams have come, and looks for messages that can't be read.
func (g *Gateway) watchQueues(ctx context.Context) {
	renewed := time.Now()
	for trouble := ""; ; {
		rest := g.history.wait(time.Now()) // a chart has a hole where a sample comes late
		if g.server == nil || trouble != "" {
			rest = min(rest, queueInterval)
		}
		select {
		case <-ctx.Done():
			return
		case <-g.store.Moved():
			if flow.Sleep(ctx, min(rest, queueInterval)) != nil {
				return
			}
		case <-time.After(rest):
		}
		if err := g.store.Check(ctx); err != nil && ctx.Err() == nil {
			g.failed(err)
			return
		}
		if g.spool != nil {
			g.spool.Check(ctx)
		}
		if g.first() {
			if err := g.store.Note(ctx, false); err != nil && ctx.Err() == nil {
				g.log.Debug("cannot note what the streams hold", "error", err)
			}
			if err := g.store.Sift(ctx); err != nil && ctx.Err() == nil {
				g.log.Debug("cannot look for damaged messages", "error", err)
			}
		}
		queued, err := g.lanes.Queued(ctx)
		if g.history.wait(time.Now()) <= 0 {
			s := g.Now()
			s.Accepted, _ = g.Accepted(ctx)
			g.history.add(s, g.metrics.spreads())
		}
		trouble = ""
		if all := g.store.Troubles(); len(all) > 0 {
			trouble = all[0]
		}
		again := g.server == nil && time.Since(renewed) >= local.StatusLife/3 // there a status expires
		if again {
			renewed = time.Now()
		}
		for _, t := range g.all() {
			t.bridge.Status.Change(g.lasting, func(s *bridge.Status) {
				s.Store, s.Clock = trouble, g.clocks.Trouble()
				if err == nil {
					s.Queued = queued[t.bridge.Name]
				}
			})
			if again {
				t.bridge.Status.Save(g.lasting)
			}
		}
	}
}

// Oldest implements Scraped.
func (g *Gateway) Oldest() map[mapping.Thing]time.Time {
	out := map[mapping.Thing]time.Time{}
	for _, t := range g.all() {
		if at, waits := t.lanes.Oldest(); waits {
			out[t.bridge.Name] = at
		}
	}
	return out
}

// Queued implements Scraped.
func (g *Gateway) Queued(ctx context.Context) (map[mapping.Thing]uint64, error) {
	if g.services.Load() == nil {
		return nil, errStarting
	}
	return g.lanes.Queued(ctx)
}

// Accepted implements Scraped.
func (g *Gateway) Accepted(ctx context.Context) (uint64, error) {
	if g.services.Load() == nil {
		return 0, errStarting
	}
	if !g.first() {
		return 0, errNotFirst
	}
	return g.lanes.Accepted(ctx)
}

// Ready implements Readiness: NATS is up, its streams take messages, every Thing is connected and subscribed, and no kind of
// its messages stands still.
func (g *Gateway) Ready(context.Context) []NotReady {
	if g.services.Load() == nil {
		return g.notStarted()
	}
	if r := g.role.Load(); r != nil && r.shards == 0 {
		return g.standby()
	}
	out := g.unsettled()
	if !g.nc.IsConnected() {
		out = append(out, NotReady{Part: PartNATS, Reason: "not connected to NATS"})
	}
	for _, reason := range g.store.Troubles() {
		out = append(out, NotReady{Part: PartStore, Reason: reason})
	}
	for _, w := range g.retries.Waiting() {
		out = append(out, NotReady{Thing: string(w.Thing), Part: PartStore, Reason: withCause("fails for now: "+w.What, w.Err.Error())})
	}
	last, reason := "", "not connected to the broker" // often many Things have the same reason
	for _, t := range g.all() {
		s := t.session.State()
		switch {
		case !s.Connected:
			if s.LastError != last {
				last, reason = s.LastError, withCause("not connected to the broker", s.LastError)
			}
			out = append(out, NotReady{Thing: string(t.bridge.Name), Part: PartConnection, Reason: reason})
		case !s.Subscribed:
			out = append(out, NotReady{Thing: string(t.bridge.Name), Part: PartSubscription, Reason: withCause("not subscribed", s.LastError)})
		case s.Held != "":
			out = append(out, NotReady{Thing: string(t.bridge.Name), Part: PartConnection, Reason: withCause("nothing is sent", s.Held)})
		}
		for _, stand := range s.Standing {
			out = append(out, NotReady{Thing: string(t.bridge.Name), Part: stand.Kind, Reason: stand.Reason})
		}
	}
	return out
}

// notStarted is what /readyz says before Listening. No Thing has a session yet.
func (g *Gateway) notStarted() []NotReady {
	out := []NotReady{{Part: PartGateway, Reason: errStarting.Error()}}
	if reason := g.awaited.Load(); reason != nil {
		out[0].Reason = *reason
	}
	for _, t := range g.metrics.Things() {
		out = append(out, NotReady{Thing: string(t), Part: PartConnection, Reason: "not started"})
	}
	return out
}

func withCause(what, cause string) string {
	if cause == "" {
		return what
	}
	return what + ": " + cause
}

// Open makes a client of the Fleets HTTP API. Without fleets.url that is an error.
func (f Fleets) Open() (*cloud.API, error) {
	if f.URL == "" {
		return nil, errors.New("fleets.url is missing, write the deployment's API endpoint")
	}
	c, err := f.client()
	if err != nil {
		return nil, err
	}
	return cloud.NewAPI(c), nil
}

// client is what every client of the Fleets HTTP API is made of.
func (f Fleets) client() (c cloud.APIConfig, err error) {
	u, err := url.Parse(f.URL)
	if err != nil {
		return c, fmt.Errorf("fleets.url: %w", err)
	}
	return cloud.APIConfig{URL: u, Key: string(f.APIKey), Secret: string(f.APISecret), TLS: f.TLS.Client}, nil
}

func (g *Gateway) newAPI(f Fleets) (*cloud.API, error) {
	if f.URL == "" {
		return nil, nil
	}
	c, err := f.client()
	if err != nil {
		return nil, err
	}
	c.TLS = g.clientFiles(f.TLS).config
	c.Clock = func(theirs, ours time.Time) { g.clocks.Compare(ours.Sub(theirs), "the Fleets HTTP API") }
	return cloud.NewAPI(c), nil
}
