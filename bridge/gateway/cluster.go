package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local"
)

// PartCluster is a part that may not be ready: this bridge's place among others.
const PartCluster = "cluster"

// role is what a bridge of a cluster does now.
type role struct {
	active bool
}

// takeTurns works while the Things are this bridge's, and stands by in between. A reload while it stands by takes effect at
// the next turn.
func (g *Gateway) takeTurns(ctx context.Context) error {
	g.metrics.SetThings(nil)
	err := g.await(ctx, func() (err error) {
		g.ownership, err = local.OpenOwnership(ctx, g.nc, g.ownershipConfig())
		return err
	})
	if err != nil {
		return err
	}
	g.metrics.cluster.of(g.ownership)
	g.role.Store(&role{})
	// The log is followed until the others know that this bridge is gone.
	follow, over := context.WithCancel(context.WithoutCancel(ctx))
	defer over()
	run, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		if err := g.ownership.Run(follow); err != nil {
			fail(err)
		}
	}()
	defer func() { over(); <-followed }()
	defer context.AfterFunc(ctx, g.ownership.Leave)()
	g.natsURL = string(g.cfg.NATS.URL)
	g.log.Info("standing by", "bridge", g.cfg.Cluster.ID, "http", g.httpAddr)
	g.listens.Do(func() { close(g.listening) }) // programs connect to NATS, whoever is active
	for run.Err() == nil {
		select {
		case <-run.Done():
		case c := <-g.changes:
			c.done <- g.take(c.cfg, g.reloadIdle)
		case t := <-g.ownership.Claimed():
			if err := g.turn(run, t); err != nil {
				fail(err)
			}
		}
	}
	g.ends()
	g.leave()
	if cause := context.Cause(run); ctx.Err() == nil {
		return cause
	}
	g.log.Info("stopped")
	return nil
}

func (g *Gateway) ownershipConfig() local.OwnershipConfig {
	c := g.Config()
	return local.OwnershipConfig{
		Subjects: g.subjects(), Replicas: c.NATS.Replicas, ID: c.Cluster.ID, Run: g.id, Shards: c.Cluster.Shards, Beat: c.Cluster.Beat,
		Version: g.build.Version, Config: c.digest(), Log: g.log, Count: func() (things, connected int) {
			for _, t := range g.all() {
				if things++; t.session.State().Connected {
					connected++
				}
			}
			return things, connected
		},
	}
}

// leave tells the other bridges that this one stops, and waits until the ownership log has it.
func (g *Gateway) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	g.ownership.Leave()
	if err := g.ownership.Left(ctx); err != nil {
		g.log.Warn("the other bridges could not be told that this one stops; they notice it after five beats")
	}
}

// turn works until the term ends, because the Things are another bridge's, or until run ends.
func (g *Gateway) turn(run context.Context, t *local.Term) error {
	defer t.Stopped()
	ctx, end := context.WithCancelCause(run)
	defer end(nil)
	defer context.AfterFunc(t, func() { end(context.Cause(t)) })()
	g.log.Info("the things are this bridge's", "bridge", t.ID, "epoch", t.Epoch, "things", len(g.cfg.Things))
	g.term = t
	g.metrics.SetThings(g.cfg.names())
	g.role.Store(&role{active: true})
	g.metrics.cluster.claimed(time.Now())
	err := g.serve(ctx)
	g.role.Store(&role{})
	g.services.Store(nil)
	g.things.Store(nil)
	g.desks.open(nil, &bridge.Requests{Watch: &g.watch.Watch, Log: g.log})
	g.metrics.SetThings(nil)
	g.term = nil
	if cause := context.Cause(t); cause != nil && run.Err() == nil {
		g.log.Info("standing by", "bridge", t.ID, "epoch", t.Epoch, "reason", cause)
		return nil
	}
	if run.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

// outsider ends the run if the bridge that has taken the lanes over does not belong to the cluster.
func (g *Gateway) outsider(run context.Context, fail func(error), taken error) {
	ctx, cancel := context.WithTimeout(run, patience)
	defer cancel()
	if g.term.Verified(ctx) == nil && g.term.Err() == nil {
		fail(fmt.Errorf("%w, which is not in this cluster: give it the same cluster.shards and nats.prefix, or stop it", taken))
	}
}

// reloadIdle takes a configuration over while no Thing runs.
func (g *Gateway) reloadIdle(cfg *Config) error {
	own, err := g.loadSchemas(cfg)
	if err != nil {
		return err
	}
	if _, err := g.compare(cfg, own); err != nil {
		return err
	}
	if g.Level != nil {
		_ = g.Level.UnmarshalText([]byte(cfg.Log.Level))
	}
	g.cfg, g.own = cfg, own
	g.shown.Store(&inForce{cfg, own})
	g.certificates.use(cfg.certificates())
	g.log.Info("configuration read again while standing by")
	return nil
}

// standby is what /readyz says of a bridge that has no Things: it is ready when another has them and this one could take
// over.
func (g *Gateway) standby() []NotReady {
	v := g.ownership.View()
	var reason string
	switch {
	case !v.Joined:
		reason = "not in the cluster yet"
	case v.Suspect:
		reason = fmt.Sprintf("the ownership log has not taken this bridge's beats for %s", v.Proof.Round(time.Second))
	case v.Mine:
		reason = "takes the things over"
	case v.Owner == "":
		reason = "no bridge has the things"
	case !v.Lives:
		reason = withCause("the bridge that has the things does not beat", v.Owner)
	default:
		return nil
	}
	return []NotReady{{Part: PartCluster, Reason: reason}}
}

// suspect is what /readyz says, in addition, of the active bridge.
func (g *Gateway) suspect() []NotReady {
	if g.ownership == nil {
		return nil
	}
	if v := g.ownership.View(); v.Suspect {
		return []NotReady{{Part: PartCluster, Reason: fmt.Sprintf("the ownership log has not taken this bridge's beats for %s; another may take over", v.Proof.Round(time.Second))}}
	}
	return nil
}

// Standing says what this bridge does in its cluster, and which bridge is active; false: it is in none.
func (g *Gateway) Standing() (state, active string, in bool) {
	r := g.role.Load()
	if r == nil {
		return "", "", false
	}
	state = "standby"
	if r.active {
		state = "active"
	}
	return state, g.ownership.View().Owner, true
}

// ownStatus writes no status while the Things may be another bridge's.
type ownStatus struct {
	bridge.StatusView
	term *local.Term
}

func (s ownStatus) Put(ctx context.Context, key string, value []byte) error {
	if !s.term.Holds() {
		return nil
	}
	return s.StatusView.Put(ctx, key, value)
}

func (s ownStatus) Delete(ctx context.Context, key string) error {
	if !s.term.Holds() {
		return nil
	}
	return s.StatusView.Delete(ctx, key)
}

// digest is a digest of the settings that decide how Things are treated, without secrets.
func (c *Config) digest() string {
	h := sha256.New()
	fmt.Fprintf(h, "%+v", []any{c.MQTT, c.Fleets, c.Things, c.NATS.Prefix, c.NATS.Replicas, c.NATS.Up, c.NATS.Down, c.Local, c.Shadow, c.Requests, c.Commands, c.Limits})
	return hex.EncodeToString(h.Sum(nil)[:2])
}
