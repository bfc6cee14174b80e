package gateway

import (
	"context"
	"time"

	"fleetbridge/bridge/local"
	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/bus"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/mapping"
)

// openNATS starts the embedded server or dials the external one. The HTTP pages are served before it waits for an external
// server, but after the embedded server has locked the store: if two bridges have one store, the second must fail because
// of the store, and not because of the port.
func (g *Gateway) openNATS(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			g.closeNATS()
		}
	}()
	n := g.cfg.NATS
	if n.URL == "" {
		if g.server, err = embedded.Start(g.serverConfig()); err != nil {
			return err
		}
	}
	if err := g.serveHTTP(); err != nil {
		return err
	}
	g.serveConsole()
	g.serveTails(ctx)
	if g.server != nil {
		if g.nc, err = g.server.Connect("fleetbridge"); err != nil {
			return err
		}
		if err = g.server.Brake().Through(g.nc); err != nil {
			return err
		}
	} else {
		dial, err := n.dial(g.log)
		if err != nil {
			return err
		}
		dial.Log = g.log
		if g.nc, err = g.dial(ctx, dial); err != nil {
			return err
		}
		if len(g.cfg.Local.Users) > 0 && !access.Confined(ctx, g.nc) && ctx.Err() == nil {
			g.log.Warn("local.users binds nobody: the NATS server of nats.url has other accounts, and whoever it lets in may do all; give it those that fleetbridge acl prints")
		}
	}
	if detail, mend := PayloadShortage(g.nc.MaxPayload(), g.cfg.Limits); detail != "" && g.server == nil {
		g.log.Warn(detail + "; " + mend)
	}
	return nil
}

// openStore opens the store and the lanes. After an error, closeNATS closes what was opened.
func (g *Gateway) openStore(ctx context.Context) (err error) {
	g.stored = true
	config := g.storeConfig()
	if g.server != nil {
		config.Working = g.server.Working
	}
	err = g.await(ctx, func() error {
		return g.shape(ctx, func() (err error) {
			g.store, err = local.Open(ctx, g.nc, config, g.log)
			return err
		})
	})
	if err != nil || g.server == nil {
		g.lanes = g.store
		g.metrics.cluster.keeps(g.store)
		return err
	}
	return g.openSpool(ctx)
}

func (g *Gateway) storeConfig() local.StoreConfig {
	cfg := g.Config()
	n := cfg.NATS
	return local.StoreConfig{
		Subjects: g.subjects(), Things: cfg.names(), Replicas: n.Replicas, Window: window, Embedded: n.URL == "", Shards: cfg.Cluster.Shards,
		Up:           int64(n.Up.MaxBytes),
		Down:         local.Limits{MaxBytes: int64(n.Down.MaxBytes), MaxAge: n.Down.MaxAge},
		ExecutionTTL: max(cfg.MQTT.SessionExpiry, 168*time.Hour),
	}
}

// openSpool opens the journal, which keeps what programs publish to the embedded server.
func (g *Gateway) openSpool(ctx context.Context) (err error) {
	n := g.cfg.NATS
	config := local.SpoolConfig{
		Dir: n.Embedded.StoreDir, Payload: int(g.cfg.Limits.Payload), Brake: g.server.Brake(), Accounts: len(g.cfg.Local.Users) > 0,
	}
	if !n.Embedded.Sync.Always {
		config.Interval = n.Embedded.Sync.Interval
	}
	if config.Intake, err = g.server.ConnectIntake(); err != nil {
		return err
	}
	if g.spool, err = g.store.OpenSpool(ctx, config); err != nil {
		config.Intake.Close()
		return err
	}
	g.lanes = g.spool
	return nil
}

// serveBus carries the messages of local.bus between users, until hush is called.
func (g *Gateway) serveBus() (hush func(), err error) {
	if g.server == nil {
		bus, err := bus.Serve(g.nc, g.subjects(), g.log)
		return bus.Close, err
	}
	if len(g.cfg.Local.Users) == 0 { // then programs share an account
		return func() {}, nil
	}
	nc, err := g.server.Connect("fleetbridge bus")
	if err == nil {
		err = g.server.Brake().Through(nc)
	}
	if err != nil {
		return nil, err
	}
	_, err = bus.Serve(nc, g.subjects(), g.log)
	return nc.Close, err
}

func (g *Gateway) serverConfig() embedded.Config {
	e := g.cfg.NATS.Embedded
	c := embedded.Config{
		Subjects: g.subjects(), Listen: e.Listen, StoreDir: e.StoreDir, MaxPayload: embeddedPayload(g.cfg.Limits), Log: g.log, Stray: g.metrics.Stray, Penal: g.metrics.Penal,
	}
	c.Users = g.cfg.LocalUsers()
	if e.TLS != (ListenTLS{}) {
		c.TLS = (&tlsFiles{names: e.TLS.files(), build: serverConfig, log: g.log}).server()
	}
	return c
}

// closeNATS closes what openNATS opened.
func (g *Gateway) closeNATS() {
	if g.pages != nil {
		_ = g.pages.Close()
	}
	g.console.close()
	g.watch.close()
	g.closeStore()
	if g.nc != nil {
		g.nc.Close()
	}
	if g.server != nil {
		g.server.Shutdown()
	}
}

// closeStore closes what openStore opened, once.
func (g *Gateway) closeStore() {
	if g.spool != nil {
		g.spool.Close()
		g.spool = nil
	}
	if g.store != nil && g.stored {
		g.store.Close()
		g.stored = false
	}
}

// shape makes or changes streams, in a cluster one bridge after the other.
func (g *Gateway) shape(ctx context.Context, f func() error) error {
	if g.ownership == nil {
		return f()
	}
	return g.ownership.Shape(ctx, f)
}

// setThings changes for which Things programs may publish.
func (g *Gateway) setThings(ctx context.Context, things []mapping.Thing) error {
	err := g.shape(ctx, func() error { return g.lanes.SetThings(ctx, things) })
	if err == nil && g.server != nil {
		g.server.SetThings(things)
	}
	return err
}
