package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"fleetbridge/bridge/local"
	"fleetbridge/bridge/local/ownership"
	"fleetbridge/mapping"
)

// PartCluster is a part that may not be ready: this bridge's place among others.
const PartCluster = "cluster"

// role is what a bridge of a cluster does now.
type role struct {
	shards int // whose Things it has; 0: it stands by
	first  bool
}

// join works as one of several bridges, until ctx ends.
func (g *Gateway) join(ctx context.Context) error {
	g.metrics.SetThings(nil)
	err := g.await(ctx, func() (err error) {
		g.ownership, err = ownership.Open(ctx, g.nc, g.ownershipConfig())
		return err
	})
	if err != nil {
		return err
	}
	g.metrics.cluster.of(g.ownership)
	g.role.Store(&role{})
	run, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	// The log is followed from when Things can be made until the others know that this bridge is gone.
	follow, over := context.WithCancel(context.WithoutCancel(ctx))
	var following sync.WaitGroup
	defer following.Wait()
	defer over()
	shards := g.cfg.Cluster.Shards
	t := &g.tenures
	t.of, t.claimed, t.over, t.left = map[int]*tenure{}, g.ownership.Claimed(), make(chan *tenure, shards), make(chan *tenure, shards)
	t.begin = func() {
		g.log.Info("joining the cluster", "bridge", g.cfg.Cluster.ID, "shards", shards)
		following.Go(func() {
			if err := g.ownership.Run(follow); err != nil {
				fail(err)
			}
		})
	}
	if g.cfg.Cluster.BrokerGrace > 0 {
		following.Go(func() { g.probe(follow) })
	}
	defer context.AfterFunc(ctx, g.ownership.Leave)()
	err = g.serve(run)
	g.leave()
	if cause := context.Cause(run); ctx.Err() == nil && cause != nil {
		return cause
	}
	if err == nil {
		g.log.Info("stopped")
	}
	return err
}

func (g *Gateway) ownershipConfig() ownership.Config {
	c := g.Config()
	return ownership.Config{
		Subjects: g.subjects(), Replicas: c.NATS.Replicas, ID: c.Cluster.ID, Run: g.id, Shards: c.Cluster.Shards, Beat: c.Cluster.Beat,
		Grace: c.Cluster.BrokerGrace, Version: g.build.Version, Config: c.digest(), Log: g.log, Count: func() (things, connected int, broker bool) {
			things, connected = g.countThings()
			return things, connected, connected > 0 || things == 0 && g.probed.Load()
		},
		Marked: func(ctx context.Context) (uint64, error) { return local.Marked(ctx, g.nc, g.storeConfig()) },
	}
}

// leave tells the other bridges that this one stops, and waits until the ownership log has it.
func (g *Gateway) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	g.ownership.Leave()
	for waits := true; waits; { // what was claimed and never begun
		select {
		case t := <-g.ownership.Claimed():
			t.Stopped()
		default:
			waits = false
		}
	}
	if err := g.ownership.Left(ctx); err != nil {
		g.log.Warn("the other bridges could not be told that this one stops; they notice it after five beats")
	}
}

// farAway is why a bridge that does not reach the broker is not ready.
const farAway = "does not reach the broker, and other bridges do: they get its things, and it stays away until it does"

// standby is what /readyz says of a bridge that has no Things: it is ready when others have them all and this one could
// take over.
func (g *Gateway) standby() []NotReady {
	v := g.ownership.View()
	var reason string
	switch {
	case !v.Joined:
		reason = "not in the cluster yet"
	case v.Away:
		reason = farAway
	case v.Suspect:
		reason = fmt.Sprintf("the ownership log has not taken this bridge's beats for %s", v.Proof.Round(time.Second))
	case v.Owned > 0:
		reason = "takes things over"
	case len(v.Owners) == 0:
		reason = "no bridge has the things"
	case len(v.Free) > 0:
		reason = withCause("bridges that have things do not beat", fmt.Sprintf("of %d shards these are without an owner: %v", v.Shards, v.Free))
	default:
		return nil
	}
	return []NotReady{{Part: PartCluster, Reason: reason}}
}

// unsettled is what an active bridge adds: that it may lose its Things, and that it has not made all that are its own.
func (g *Gateway) unsettled() (out []NotReady) {
	if g.ownership == nil {
		return nil
	}
	v := g.ownership.View()
	if v.Suspect {
		out = append(out, NotReady{Part: PartCluster, Reason: fmt.Sprintf("the ownership log has not taken this bridge's beats for %s; another may take over", v.Proof.Round(time.Second))})
	}
	if v.Away {
		out = append(out, NotReady{Part: PartCluster, Reason: farAway})
	}
	if r := g.role.Load(); v.Owned > r.shards {
		out = append(out, NotReady{Part: PartCluster, Reason: fmt.Sprintf("takes the things of %d shards over", v.Owned-r.shards)})
		made := map[mapping.Thing]bool{}
		for _, t := range g.all() {
			made[t.bridge.Name] = true
		}
		for _, t := range g.metrics.Things() {
			if !made[t] {
				out = append(out, NotReady{Thing: string(t), Part: PartConnection, Reason: "not started"})
			}
		}
	}
	return out
}

// Standing says what this bridge does in its cluster, how many shards it has the Things of, and which bridges have some;
// false: it is in none.
func (g *Gateway) Standing() (s Standing, in bool) {
	r := g.role.Load()
	if r == nil {
		return s, false
	}
	s = Standing{State: "standby", Active: strings.Join(g.ownership.View().Owners, ", "), Shards: r.shards}
	if r.shards > 0 {
		s.State = "active"
	}
	return s, true
}

// digest is a digest of the settings that decide how Things are treated, without secrets.
func (c *Config) digest() string {
	h := sha256.New()
	fmt.Fprintf(h, "%+v", []any{c.MQTT, c.Fleets, c.Things, c.NATS.Prefix, c.NATS.Replicas, c.NATS.Up, c.NATS.Down, c.Local, c.Shadow, c.Requests, c.Commands, c.Limits})
	return hex.EncodeToString(h.Sum(nil)[:2])
}
