package gateway

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"fleetbridge/bridge/local"
	"fleetbridge/bridge/local/ownership"
	"fleetbridge/mapping"
)

// tenures are the shards that are this bridge's, in a cluster. Of a bridge alone nothing is in it.
type tenures struct {
	begin   func()                 // has shards claimed
	of      map[int]*tenure        // by shard
	claimed <-chan *ownership.Term // what is this bridge's from now on
	over    chan *tenure           // what is another's from now on; there is room for all
	left    chan *tenure           // whose Things have stopped; there is room for all
	leaving sync.WaitGroup         // those whose Things stop
}

// tenure is a shard while it is this bridge's, and what the store has of it.
type tenure struct {
	*ownership.Term
	share *local.Share
	begun bool // its Things run
}

// errNotFirst leaves counts of whole streams to one bridge of a cluster.
var errNotFirst = errors.New("another bridge of the cluster counts this")

// first reports whether this bridge does what one of a cluster has to do for all. It is the one with the first shard. It
// may be called by anybody.
func (g *Gateway) first() bool {
	r := g.role.Load()
	return r == nil || r.first
}

// ours reports whether this bridge has, or is about to have, a Thing.
func (g *Gateway) ours(t mapping.Thing) bool {
	return g.ownership == nil || g.tenures.of[g.ownership.ShardOf(t)] != nil
}

// ourThings are those of the configuration that are ours.
func (g *Gateway) ourThings() []mapping.Thing {
	return slices.DeleteFunc(g.cfg.names(), func(t mapping.Thing) bool { return !g.ours(t) })
}

// lost reports whether a Thing could not be made because it is another bridge's.
func (g *Gateway) lost(name mapping.Thing, err error) bool {
	if err == nil || g.ownership == nil {
		return false
	}
	t := g.tenures.of[g.ownership.ShardOf(name)]
	return t == nil || t.Err() != nil || errors.Is(err, ownership.ErrFenced)
}

// ofShard are the Things of a shard that there are.
func (g *Gateway) ofShard(p int) (out []*thing) {
	for _, t := range g.all() {
		if g.ownership.ShardOf(t.bridge.Name) == p {
			out = append(out, t)
		}
	}
	return out
}

// claim begins all that is this bridge's since a moment ago.
func (g *Gateway) claim(run context.Context, first *ownership.Term) error {
	claimed := []*tenure{{Term: first}}
	for more := true; more; {
		select {
		case t := <-g.tenures.claimed:
			claimed = append(claimed, &tenure{Term: t})
		default:
			more = false
		}
	}
	began := time.Now()
	if err := g.fence(run, claimed); err != nil {
		return err
	}
	for _, t := range claimed {
		if t.share != nil {
			g.tenures.of[t.Shard] = t
		}
	}
	g.metrics.SetThings(g.ourThings())
	for _, t := range claimed {
		if t.share == nil { // another was faster
			t.Stopped()
			continue
		}
		if err := g.begin(run, t); err != nil {
			return err
		}
	}
	g.metrics.cluster.took(len(claimed), time.Since(began))
	return nil
}

// fence opens the shares of shards, side by side. One that is another's by now gets none.
func (g *Gateway) fence(run context.Context, claimed []*tenure) error {
	err := g.await(run, func() error {
		var all sync.WaitGroup
		failed := make([]error, len(claimed))
		for i, t := range claimed {
			if t.share != nil || t.Err() != nil {
				continue
			}
			all.Go(func() {
				ctx, cancel := context.WithCancel(run)
				defer cancel()
				defer context.AfterFunc(t, cancel)()
				share, err := g.store.Own(ctx, t.Term)
				if err == nil {
					t.share = share
				} else if t.Err() == nil {
					failed[i] = err
				}
			})
		}
		all.Wait()
		return errors.Join(failed...)
	})
	if run.Err() != nil {
		return nil
	}
	return err
}

// begin makes the Things of a shard and starts them.
func (g *Gateway) begin(run context.Context, t *tenure) error {
	ctx, cancel := context.WithCancel(run)
	defer cancel()
	defer context.AfterFunc(t, cancel)()
	if t.Shard == 0 {
		if err := g.await(ctx, g.openClerk); err != nil && ctx.Err() == nil {
			return err
		}
	}
	plans := slices.DeleteFunc(g.plans(g.cfg), func(p plan) bool { return g.ownership.ShardOf(p.name()) != t.Shard })
	made, err := g.makeAll(ctx, plans)
	switch {
	case run.Err() != nil: // the stop of all goes on
		return nil
	case err != nil && t.Err() == nil:
		return err
	case err != nil:
		g.forget(run, made)
		made = nil
	}
	t.begun = true
	g.showRole()
	g.run(made)
	g.log.Info("a shard is this bridge's", "shard", t.Shard, "epoch", t.Epoch, "things", len(made))
	context.AfterFunc(t, func() { g.tenures.over <- t })
	return nil
}

// release stops the Things of a shard that is another bridge's, or is to be. left hears when they have stopped.
func (g *Gateway) release(run context.Context, t *tenure) {
	if t.Shard == 0 {
		g.closeClerk()
	}
	things, why := g.ofShard(t.Shard), context.Cause(t)
	g.log.Info("a shard is given up", "shard", t.Shard, "epoch", t.Epoch, "things", len(things), "reason", why)
	g.tenures.leaving.Go(func() {
		if errors.Is(why, ownership.ErrLost) { // nothing that programs wait for will come
			g.desks.close(things)
			stopping{ts: things, hurry: run.Done()}.run()
		} else {
			g.stop(run, things)
		}
		g.tenures.left <- t
	})
}

// gone takes out Things that have stopped with their shard.
func (g *Gateway) gone(ctx context.Context, t *tenure) {
	things := g.ofShard(t.Shard)
	stay := slices.DeleteFunc(slices.Clone(g.all()), func(x *thing) bool { return slices.Contains(things, x) })
	g.things.Store(&stay)
	g.openDesks(stay)
	g.forget(ctx, things)
	g.end(t)
	g.metrics.SetThings(g.ourThings())
}

// end lets a shard go whose Things have stopped.
func (g *Gateway) end(t *tenure) {
	t.share.Close()
	delete(g.tenures.of, t.Shard)
	g.showRole()
	t.Stopped()
}

// settleTenures waits for the Things that stop with their shards, and takes them out.
func (g *Gateway) settleTenures(ctx context.Context) {
	g.tenures.leaving.Wait()
	for {
		select {
		case t := <-g.tenures.left:
			g.gone(ctx, t)
		default:
			return
		}
	}
}

// letGo ends all tenures, after all Things have stopped.
func (g *Gateway) letGo() {
	for _, t := range g.tenures.of {
		g.end(t)
	}
}

// showRole tells /readyz what this bridge has.
func (g *Gateway) showRole() {
	r := &role{}
	for p, t := range g.tenures.of {
		if t.begun {
			r.shards++
			r.first = r.first || p == 0
		}
	}
	g.role.Store(r)
}
