package ownership

import (
	"context"

	"fleetbridge/bridge/cluster"
)

// Term is the time in which a shard is this bridge's. Its context ends with ErrLost or ErrReleased.
type Term struct {
	context.Context
	Epoch uint64
	ID    string // of the bridge
	Shard int
	of    *Ownership
	end   context.CancelCauseFunc
}

// NewTerm makes a term as the log does when it names this bridge the owner. Tests make terms of their own.
func (o *Ownership) NewTerm(shard int, epoch uint64) *Term {
	t := &Term{Epoch: epoch, ID: o.cfg.ID, Shard: shard, of: o}
	t.Context, t.end = context.WithCancelCause(context.Background())
	return t
}

// Verified returns when it is proved that the shard is this bridge's, later than the call.
func (t *Term) Verified(ctx context.Context) error { return t.of.verified(ctx, t.Shard) }

// Holds reports whether the shard is this bridge's, as far as it knows. Nothing may rest on it but what people read.
func (t *Term) Holds() bool {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	return t.Err() == nil && !t.of.bridge.Suspect(t.of.now())
}

// Stopped says that nothing is done for the shard any more.
func (t *Term) Stopped() { t.of.step(cluster.Stopped{Shard: t.Shard, Epoch: t.Epoch}) }

// lost says that a stream has refused a write for good.
func (t *Term) lost(stream string) {
	t.of.mu.Lock()
	t.of.fences[stream]++
	t.of.mu.Unlock()
	t.of.cfg.Log.Warn("another bridge owns the things: what this one was still writing is refused", "stream", stream, "shard", t.Shard, "epoch", t.Epoch)
	t.of.step(cluster.Fenced{Shard: t.Shard, Epoch: t.Epoch})
}
