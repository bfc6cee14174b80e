package ownership

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
)

const (
	// shapingMost is how long another bridge is waited for that may have died meanwhile.
	shapingMost  = 15 * time.Second
	shapingPause = 50 * time.Millisecond
)

// Shape has f make or change streams while no other bridge of the cluster does: of three servers that are asked for the same
// by several at once, none answers for 20 s. That is all; nothing else rests on it.
func (o *Ownership) Shape(ctx context.Context, f func() error) error {
	revision, since := uint64(0), time.Now()
	for {
		mine, err := o.kv.Create(ctx, keyShaping, []byte(o.cfg.Run))
		if err == nil {
			defer func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), streams.AnswerTime)
				defer cancel()
				_ = o.kv.Delete(ctx, keyShaping, jetstream.LastRevision(mine)) // or others wait a while
			}()
			return f()
		}
		if wire.APICode(err) == wire.CodeBusy {
			if err := flow.Sleep(ctx, busyPause); err != nil {
				return err
			}
			continue
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return err
		}
		entry, err := o.kv.Get(ctx, keyShaping)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
		case err != nil:
			return err
		case entry.Revision() != revision:
			revision, since = entry.Revision(), time.Now()
		case time.Since(since) > shapingMost:
			_ = o.kv.Delete(ctx, keyShaping, jetstream.LastRevision(revision)) // or somebody else did
		}
		if err := flow.Sleep(ctx, shapingPause); err != nil {
			return err
		}
	}
}
