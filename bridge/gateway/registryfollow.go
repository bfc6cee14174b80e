package gateway

import (
	"context"
	"time"

	"fleetbridge/bridge/local/registry"
	"fleetbridge/mapping"
)

// registered is the registry as it was read.
type registered struct {
	entries  []registry.Entry
	revision uint64
}

// taken is what became of it: up to a change all entries are in force, but for the refused.
type taken struct {
	revision uint64
	refused  []Refused
	files    watchlist // that the entries name
}

// openRegistry reads the Things that were added at run time, and follows them until leave is called. With the embedded server
// things_dir has them.
func (g *Gateway) openRegistry(ctx context.Context) (leave func(), err error) {
	if g.server != nil {
		return func() {}, nil
	}
	reg, err := registry.New(g.nc, g.subjects(), g.cfg.NATS.Replicas)
	if err != nil {
		return nil, err
	}
	err = g.await(ctx, func() error {
		_, err := reg.Follow(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	g.registry.Store(&registered{reg.Entries(), reg.Revision()})
	err = g.take(g.base, func(cfg *Config) error {
		own, err := g.loadSchemas(cfg)
		if err != nil {
			return err
		}
		g.cfg, g.own = cfg, own
		g.shown.Store(&inForce{cfg, own})
		g.metrics.SetThings(cfg.names())
		return nil
	})
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.followRegistry(ctx, reg)
	}()
	return func() { end(); <-ended }, nil
}

// registryPatience is how long a look at the registry may take.
const registryPatience = 10 * time.Second

// followRegistry looks at the registry again and again, and has changes taken over, until ctx ends.
func (g *Gateway) followRegistry(ctx context.Context, reg *registry.Registry) {
	ticker := time.NewTicker(followInterval)
	defer ticker.Stop()
	var failing time.Time // since when
	said, pending := false, false
	var before *watchlist
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !g.nc.IsConnected() { // which is said elsewhere
			continue
		}
		look, cancel := context.WithTimeout(ctx, registryPatience)
		changed, err := reg.Follow(look)
		cancel()
		if pending = pending || changed || g.filesChanged(&before); err == nil && pending {
			g.registry.Store(&registered{reg.Entries(), reg.Revision()})
			if err = g.Reload(ctx, nil); err == nil {
				pending = false
			}
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if said {
				g.log.Info("the registry of things is followed again", "bucket", reg.Name())
			}
			failing, said = time.Time{}, false
		case failing.IsZero():
			failing = time.Now()
		case !said && time.Since(failing) > registryPatience: // a cluster of NATS servers may elect a leader meanwhile
			g.log.Warn("the registry of things in NATS can't be followed, what was read before stays in force", "bucket", reg.Name(), "error", err)
			said = true
		}
	}
}

// filesChanged reports whether a file that an entry names has changed since it was read. Like Follow, it waits until the files
// look alike twice; before is how they looked at the last call.
func (g *Gateway) filesChanged(before **watchlist) bool {
	read := g.taken.Load().files
	now := read.again()
	if now.same(read) {
		*before = nil
		return false
	}
	if *before != nil && now.same(**before) {
		*before = nil
		return true
	}
	*before = &now
	return false
}

// take has a configuration of files carried out with the Things of the registry beside its own. nil: that of before.
func (g *Gateway) take(files *Config, do func(*Config) error) error {
	if files == nil {
		files = g.base
	}
	reg := g.registry.Load()
	if reg == nil {
		reg = &registered{}
	}
	cfg, refused, named := files.withRegistry(reg.entries)
	if err := do(cfg); err != nil {
		return err
	}
	g.base = files
	g.sayRefused(refused)
	g.taken.Store(&taken{reg.revision, refused, named})
	return nil
}

// sayRefused logs what is refused now, and was not before.
func (g *Gateway) sayRefused(refused []Refused) {
	before := map[string]string{}
	if was := g.taken.Load(); was != nil {
		for _, r := range was.refused {
			before[r.Key] = r.Reason
		}
	}
	for _, r := range refused {
		if before[r.Key] != r.Reason {
			g.log.Warn("an entry of the registry of things is refused, it costs only itself", "key", r.Key, "thing", r.Thing, "problems", oneLine(r.Reason))
		}
	}
	g.metrics.refused.Set(float64(len(refused)))
}

// standings says how Things stand at this bridge.
func (g *Gateway) standings(things []string) registry.Standings {
	out := registry.Standings{}
	if cfg := g.Config(); cfg.Cluster.On() {
		out.Bridge = cfg.Cluster.ID
	}
	refused := map[string]string{}
	if t := g.taken.Load(); t != nil {
		out.Revision = t.revision
		for _, r := range t.refused {
			refused[r.Thing] = r.Reason
		}
	}
	if last := g.reloaded.Load(); last != nil {
		if out.Reloaded = last.At; last.Err != nil {
			out.Refused = oneLine(last.Err.Error())
		}
	}
	here := map[mapping.Thing]*thing{}
	for _, t := range g.all() {
		here[t.bridge.Name] = t
	}
	for _, name := range things {
		s := registry.Standing{Thing: name, Refused: refused[name]}
		if t := here[mapping.Thing(name)]; t != nil {
			s.Here, s.Connected, s.Queued = true, t.session.State().Connected, t.bridge.Status.Status().Queued
		}
		out.Things = append(out.Things, s)
	}
	return out
}
