package local

import (
	"context"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// downSink stores what the cloud sent, for live subscribers and for replay, with an external server.
type downSink struct {
	publisher *publisher
	subjects  mapping.Subjects
}

var (
	_ bridge.Sink      = (*downSink)(nil)
	_ bridge.Lanes     = (*Store)(nil)
	_ bridge.Graveyard = (*Store)(nil)
	_ bridge.Archive   = (*Store)(nil)
)

// Down is the sink of all Things.
func (s *Store) Down() bridge.Sink {
	if s.spool != nil {
		return viewSink{s.spool.views.down, s.cfg.Subjects, s.history}
	}
	return &downSink{s.toDown, s.cfg.Subjects}
}

// Send is bridge.Sink: done(nil) follows when the stream has the message, a *bridge.Rejection when it
// is larger than NATS takes. Programs see it after that.
func (d *downSink) Send(ctx context.Context, m bridge.Message, done func(error)) error {
	return d.publisher.send(ctx, wire.DownMessage(d.subjects, m), done)
}
