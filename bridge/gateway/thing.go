package gateway

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/cloud"
	"fleetbridge/bridge/local"
	"fleetbridge/mapping"
)

const (
	// window is how many messages of a Thing and class are on their way to the broker at once. At a
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
	// came from, and why it died.
	natsHeadroom = 64 << 10
)

// thing is a Thing with its edges.
type thing struct {
	bridge  *bridge.Thing
	session *cloud.Session
	queues  []*local.Queue
}

// makeThings wires every configured Thing. Nothing connects yet.
func (g *Gateway) makeThings(ctx context.Context) error {
	tlsConfig, err := g.cfg.MQTT.TLS.Client()
	if err != nil {
		return err
	}
	servers := make([]*url.URL, len(g.cfg.MQTT.Server))
	for i, s := range g.cfg.MQTT.Server {
		if servers[i], err = url.Parse(s); err != nil {
			return fmt.Errorf("mqtt.server: %w", err)
		}
	}
	m := g.cfg.MQTT
	session := cloud.Config{
		Servers: servers, TLS: tlsConfig, KeepAlive: m.KeepAlive, SessionExpiry: m.SessionExpiry, AckTimeout: m.AckTimeout,
		ReceiveMaximum: uint16(m.ReceiveMaximum), Compact: m.Subscriptions == SubscriptionsCompact,
		Backoff:        cloud.Backoff{Max: reconnectMax},
		MaxPublishRate: m.MaxPublishRate, Window: window, MaxPacket: g.maxPacket(),
	}
	run := instance()
	for _, t := range g.cfg.Things {
		made, err := g.makeThing(ctx, t, session, g.ports(), run)
		if err != nil {
			return err
		}
		g.things = append(g.things, made)
	}
	return nil
}

// ports are the parts that Things share.
func (g *Gateway) ports() bridge.Ports {
	s := g.store
	return bridge.Ports{
		Down: s.Down(), Graveyard: s, Archive: s, Outbox: s, Handlers: local.NewHandlers(g.nc, g.subjects()), API: g.api,
		Shadows: s.Shadow(), Statuses: s.Status(), Executions: s.Executions(), Leases: s.Leases(), Marks: s.Marks(),
		Catalog: g.catalog, Observer: g.metrics, Now: time.Now, Log: g.log,
	}
}

func (g *Gateway) makeThing(ctx context.Context, c Thing, sc cloud.Config, p bridge.Ports, run string) (*thing, error) {
	name := mapping.Thing(c.Name)
	sc.ClientID, sc.Username, sc.Password = c.ClientID, c.Username, string(c.Password)
	made := &thing{}
	made.session = cloud.NewSession(name, sc, cloud.Hooks{
		State: func(s cloud.State) { g.stateChanged(ctx, made, s) },
		Ready: func(ctx context.Context, present bool) { made.bridge.Ready(ctx, present) },
	}, g.log)
	p.Cloud = made.session
	p.Queues = map[mapping.Class]bridge.Source{}
	for _, class := range mapping.Classes {
		q, err := g.store.Queue(ctx, name, class)
		if err != nil {
			return nil, err
		}
		made.queues = append(made.queues, q)
		p.Queues[class] = q
	}
	cmd := g.cfg.Commands
	var err error
	made.bridge, err = bridge.NewThing(ctx, bridge.ThingConfig{
		Thing: name, Own: g.own[name], Merged: g.cfg.Shadow.Report == ReportMerged, MaxBytes: int(g.cfg.Limits.Payload), Instance: run,
		MaxAge:   g.cfg.NATS.Up.MaxAge,
		Commands: bridge.CommandPolicy{Reject: cmd.NoHandler == NoHandlerReject, HandlerWait: cmd.HandlerWait, DefaultTTL: cmd.DefaultTTL, ClockSkew: cmd.ClockSkew},
	}, p)
	return made, err
}

// stateChanged carries a session's state into the Thing's status and the metrics.
func (g *Gateway) stateChanged(ctx context.Context, t *thing, s cloud.State) {
	g.metrics.Connected(t.bridge.Name, s.Connected)
	t.bridge.Connected(context.WithoutCancel(ctx), func(status *bridge.Status) {
		status.Connected, status.Subscribed, status.SessionPresent = s.Connected, s.Subscribed, s.SessionPresent
		status.Since, status.LastError = s.Since.UTC(), s.LastError
	})
}

// maxPacket is the largest packet that a broker may send.
func (g *Gateway) maxPacket() int { return int(g.cfg.Limits.Payload) + packetHeadroom }

func (g *Gateway) anyConnected() bool {
	for _, t := range g.things {
		if t.session.State().Connected {
			return true
		}
	}
	return false
}

// queueInterval is how often the number of waiting messages in the status is brought up to date.
const queueInterval = 2 * time.Second

// watchQueues keeps the status's queued true, with one question to the store for all Things, notes for the
// next start how far the streams have come, and finds messages that can't be read.
func (g *Gateway) watchQueues(ctx context.Context) {
	ticker := time.NewTicker(queueInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := g.store.Note(ctx, false); err != nil && ctx.Err() == nil {
			g.log.Debug("cannot note what the streams hold", "error", err)
		}
		if err := g.store.Sift(ctx); err != nil && ctx.Err() == nil {
			g.log.Debug("cannot look for damaged messages", "error", err)
		}
		queued, err := g.store.Queued(ctx)
		if err != nil {
			continue // the store's own troubles are logged where they are met
		}
		for _, t := range g.things {
			t.bridge.Status.Change(context.WithoutCancel(ctx), func(s *bridge.Status) { s.Queued = queued[t.bridge.Name] })
		}
	}
}

// Queued implements the metrics' collector.
func (g *Gateway) Queued(ctx context.Context) (map[mapping.Thing]uint64, error) {
	return g.store.Queued(ctx)
}

// Accepted implements Queues.
func (g *Gateway) Accepted(ctx context.Context) (uint64, error) { return g.store.Accepted(ctx) }

// Ready implements Readiness: NATS is up and every Thing is connected and subscribed.
func (g *Gateway) Ready(context.Context) []NotReady {
	var out []NotReady
	if !g.nc.IsConnected() {
		out = append(out, NotReady{Reason: "not connected to NATS"})
	}
	for _, t := range g.things {
		s := t.session.State()
		switch {
		case !s.Connected:
			out = append(out, NotReady{Thing: string(t.bridge.Name), Reason: withCause("not connected to the broker", s.LastError)})
		case !s.Subscribed:
			out = append(out, NotReady{Thing: string(t.bridge.Name), Reason: withCause("not subscribed", s.LastError)})
		}
	}
	return out
}

func withCause(what, cause string) string {
	if cause == "" {
		return what
	}
	return what + ": " + cause
}

func (g *Gateway) newAPI() (bridge.ShadowAPI, error) {
	f := g.cfg.Fleets
	if f.URL == "" {
		return nil, nil
	}
	u, err := url.Parse(f.URL)
	if err != nil {
		return nil, fmt.Errorf("fleets.url: %w", err)
	}
	return cloud.NewAPI(cloud.APIConfig{URL: u, Key: string(f.APIKey), Secret: string(f.APISecret)}), nil
}
