package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// leftovers tells of messages of Things that are not configured any more. They stay for the day the Thing comes back. It
// also ends a bridge of an older version; see unmakeConsumers.
func (s *Store) leftovers(ctx context.Context) error {
	queued, err := s.queued(ctx)
	if err != nil {
		return err
	}
	for _, t := range s.cfg.Things {
		delete(queued, mapping.Token(string(t)))
	}
	for token, n := range queued {
		s.log.Warn("messages of a Thing that is not configured stay in the queue; add it again to send them, or remove them with nats stream purge",
			"thing", wire.ThingOf(token), "messages", n)
	}
	for class := range s.up {
		up := &s.up[class]
		if err := s.unmakeConsumers(ctx, up); err != nil {
			return fmt.Errorf("stream %s: its consumers: %w", up.name(), err)
		}
	}
	return nil
}

// What older versions had in the metadata of a consumer for each lane.
const (
	metaOwner = "fleetbridge.owner"
	metaThing = "fleetbridge.thing"
)

// olderEnds is how long a bridge of an older version may take to learn that it has been taken over.
const olderEnds = time.Hour

// unmakeConsumers removes the consumers of an older version. One that is still running makes its own again unless somebody
// else's is there, so one of them is kept for it, in another name.
func (s *Store) unmakeConsumers(ctx context.Context, up jetstream.Stream) error {
	var old []*jetstream.ConsumerInfo
	list := up.ListConsumers(ctx)
	for info := range list.Info() {
		if info.Config.Metadata[metaOwner] != "" {
			old = append(old, info)
		}
	}
	if err := list.Err(); err != nil {
		return err
	}
	for i, info := range old {
		if err := up.DeleteConsumer(ctx, info.Name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return err
		}
		if i > 0 || info.Config.Metadata[metaThing] == "" {
			continue
		}
		_, err := up.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: info.Name, FilterSubject: info.Config.FilterSubject, AckPolicy: jetstream.AckExplicitPolicy,
			InactiveThreshold: olderEnds, MemoryStorage: true, Metadata: map[string]string{metaOwner: s.lanes.owner}})
		if err != nil { // the older one was faster
			s.log.Debug("cannot mark the queues as taken over for a bridge of an older version", "consumer", info.Name, "error", err)
		}
	}
	return nil
}
