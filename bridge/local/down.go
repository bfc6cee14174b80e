package local

import (
	"context"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// DownSink stores what the cloud sent, for live subscribers and for replay, with an external server.
type DownSink struct {
	publisher *publisher
	subjects  mapping.Subjects
}

var (
	_ bridge.Sink      = (*DownSink)(nil)
	_ bridge.Lanes     = (*Store)(nil)
	_ bridge.Graveyard = (*Store)(nil)
	_ bridge.Archive   = (*Store)(nil)
)

// Down is the sink of all Things.
func (s *Store) Down() bridge.Sink {
	if s.spool != nil {
		return viewSink{s.spool.views.down, s.cfg.Subjects, s.history}
	}
	return &DownSink{s.toDown, s.cfg.Subjects}
}

// Send is bridge.Sink: done(nil) follows when the stream has the message, a *bridge.Rejection when it
// is larger than NATS takes. Programs see it after that.
func (d *DownSink) Send(ctx context.Context, m bridge.Message, done func(error)) error {
	return d.publisher.send(ctx, downMessage(d.subjects, m), done)
}

func downMessage(s mapping.Subjects, m bridge.Message) *nats.Msg {
	h := wire.NewHeaders()
	h.Stamp(m)
	h.Set(wire.HeaderTopic, wire.HeaderText(m.Address.Topic()))
	return &nats.Msg{Subject: s.Store(mapping.SpaceDown, m.Address), Header: h.Header, Data: m.Payload}
}
