package gateway

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"fleetbridge/mapping"
)

// change is a new configuration for Run's goroutine. cfg nil: only the registry has changed.
type change struct {
	cfg  *Config
	done chan error
}

// Reload takes over another configuration that Load returned. An error means that nothing has changed: it
// asks for something that only a restart can do, or that can't be done now. Things whose settings are
// the same keep their sessions. It returns when the change is complete, or ctx ends.
func (g *Gateway) Reload(ctx context.Context, cfg *Config) error {
	c := change{cfg, make(chan error, 1)}
	select {
	case g.changes <- c:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// told logs how a reload ended, and notes it for the metrics and the console.
func (g *Gateway) told(err error) {
	now := time.Now()
	g.metrics.Reloaded(err == nil, now)
	g.reloaded.Store(&Reloaded{now, err})
	if err != nil {
		g.log.Error("the new configuration is refused, the old one stays in force", "problems", oneLine(err.Error()))
	}
}

// errStopping is the error of a reload during which the gateway stops.
var errStopping = errors.New("the bridge is stopping")

// reload carries a change out. ctx ends when the gateway stops. Everything that may fail comes first, and is undone after a
// failure. When the first Thing is stopped, there is no way back.
func (g *Gateway) reload(ctx context.Context, cfg *Config) error {
	own, err := g.loadSchemas(cfg)
	if err != nil {
		return err
	}
	d, err := g.compare(cfg, own)
	if err != nil {
		return err
	}
	api := g.api
	if !reflect.DeepEqual(g.cfg.Fleets, cfg.Fleets) {
		if api, err = g.newAPI(cfg.Fleets); err != nil {
			return err
		}
	}
	maker := g.maker(cfg, own, api)
	made, err := g.add(ctx, maker, cfg.names(), d)
	if err != nil {
		return err
	}
	gone := slices.Concat(d.removed, d.changed)
	if g.stop(ctx, gone); ctx.Err() != nil {
		return errStopping // stopAll goes on with them
	}
	g.forget(ctx, d.removed)
	stay := slices.DeleteFunc(slices.Clone(g.all()), func(t *thing) bool { return slices.Contains(gone, t) })
	g.things.Store(&stay)
	for _, t := range d.changed {
		next, err := g.insist(ctx, maker, d.plans[t.bridge.Name])
		if err != nil {
			return err
		}
		if next != nil {
			made = append(made, next)
		}
	}
	g.welcome(cfg, d)
	g.settle(ctx, cfg, d)
	g.own = own
	g.shown.Store(&inForce{cfg, own})
	if g.api != nil && g.api != api {
		g.api.Close()
	}
	g.api = api
	g.run(made)
	select {
	case g.reread <- struct{}{}:
	default: // it is said already
	}
	return nil
}

// welcome gives the users their new rights, before the new Things take messages.
func (g *Gateway) welcome(cfg *Config, d difference) {
	var err error
	if g.server != nil { // first, because the clerk needs the accounts
		err = g.server.SetUsers(d.users, cfg.names())
	}
	leave := func() {}
	if err == nil && g.clerk != nil {
		leave, err = g.clerk.SetUsers(d.users, cfg.names())
	}
	if err != nil { // they were checked before
		g.log.Error("users do not have all the rights that they should have, until the next change or start", "error", err)
		return
	}
	leave()
	if g.server == nil && d.usersAdded+d.usersRemoved+d.usersChanged > 0 {
		g.log.Warn("local.users have changed: the NATS server of nats.url learns it from what fleetbridge acl prints")
	}
}

// add makes Things beside those that there are, or none.
func (g *Gateway) add(ctx context.Context, m maker, names []mapping.Thing, d difference) (made []*thing, err error) {
	was := g.cfg.names()
	all := append(slices.Clone(was), without(names, was)...)
	if len(all) == len(was) {
		return nil, nil
	}
	if err = g.setThings(ctx, all); err == nil {
		if made, err = m.all(ctx, d.added); err == nil {
			return made, nil
		}
	}
	g.forget(ctx, made)
	return nil, errors.Join(fmt.Errorf("things: %w", err), g.setThings(ctx, was))
}

// without are those names that others don't have.
func without(names, others []mapping.Thing) (out []mapping.Thing) {
	there := make(map[mapping.Thing]bool, len(others))
	for _, t := range others {
		there[t] = true
	}
	return slices.DeleteFunc(slices.Clone(names), func(t mapping.Thing) bool { return there[t] })
}

// insist makes a Thing and waits out what keeps it from that, such as a NATS server that is away. It makes none that is
// another bridge's by now.
func (g *Gateway) insist(ctx context.Context, m maker, p plan) (*thing, error) {
	for first := true; ; first = false {
		t, err := m.ours(ctx, p)
		if err == nil {
			return t, nil
		}
		if ctx.Err() != nil {
			return nil, errStopping
		}
		if first {
			g.log.Warn("a thing can't start anew yet", "thing", string(p.name()), "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, errStopping
		case <-time.After(dialPause):
		}
	}
}

// forget gives up the lanes of Things that have stopped or never started.
func (g *Gateway) forget(ctx context.Context, ts []*thing) {
	for _, t := range ts {
		if err := t.lanes.Remove(ctx); err != nil && ctx.Err() == nil {
			g.log.Warn("the queue of a thing stays behind until the next start", "thing", string(t.plan.name()), "error", err)
		}
	}
}

// settle puts the new configuration in force.
func (g *Gateway) settle(ctx context.Context, cfg *Config, d difference) {
	gained, dropped := without(cfg.names(), g.cfg.names()), without(g.cfg.names(), cfg.names())
	if len(dropped) > 0 { // else the subjects are those that there must be
		if err := g.setThings(ctx, cfg.names()); err != nil && ctx.Err() == nil {
			g.log.Warn("what is published for things that were removed is still stored, until the next change or start", "error", err)
		}
	}
	g.removed(ctx, d.removed)
	for _, w := range cfg.Warnings {
		if !slices.ContainsFunc(g.cfg.Warnings, func(o Problem) bool { return o.Path == w.Path && o.Message == w.Message }) {
			g.log.Warn(w.String())
		}
	}
	if g.Level != nil {
		_ = g.Level.UnmarshalText([]byte(cfg.Log.Level))
	}
	g.cfg = cfg
	g.metrics.SetThings(g.ourThings())
	g.certificates.use(cfg.certificates())
	if len(d.keys)+len(gained)+len(dropped)+len(d.changed)+d.usersAdded+d.usersRemoved+d.usersChanged == 0 {
		g.log.Info("configuration read again, nothing in it changed")
		return
	}
	g.log.Info("configuration reloaded", "added", gained, "removed", dropped, "restarted", named(d.changed), "keys", d.keys,
		"users_added", d.usersAdded, "users_removed", d.usersRemoved, "users_changed", d.usersChanged)
}

// removed logs how many messages removed Things have left, and deletes their status.
func (g *Gateway) removed(ctx context.Context, ts []*thing) {
	if len(ts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience) // it does not wait for a NATS server that is away
	defer cancel()
	queued, err := g.lanes.Left(ctx, named(ts))
	if err != nil {
		g.log.Debug("cannot count what removed things have left", "error", err)
	}
	for _, t := range ts {
		name := t.bridge.Name
		t.bridge.Status.Remove(ctx)
		g.log.Info("thing removed; what is queued stays stored until it is configured again", "thing", string(name), "messages", queued[name])
	}
}
