package services

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// Ping asks the service whether it is there, over NATS as any program would: the server must route, and
// the connection must dispatch. It fails when ctx ends first, and once the service takes no requests.
func (s *Service) Ping(ctx context.Context) error {
	subject, err := micro.ControlSubject(micro.PingVerb, wire.ServiceName, s.micro.Info().ID)
	if err != nil {
		return fmt.Errorf("request service: %w", err)
	}
	if _, err := s.nc.RequestWithContext(ctx, subject, nil); err != nil {
		return fmt.Errorf("request service: %w", err)
	}
	return nil
}

// Serving tells whether a bridge with this prefix answers on the connection.
func Serving(ctx context.Context, nc *nats.Conn, subjects mapping.Subjects) (bool, error) {
	subject, err := micro.ControlSubject(micro.InfoVerb, wire.ServiceName, "")
	if err != nil {
		return false, err
	}
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		return false, err
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := nc.PublishRequest(subject, inbox, nil); err != nil {
		return false, err
	}
	for { // one answer from each service of that name
		m, err := answers.NextMsgWithContext(ctx)
		if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		var info micro.Info
		if json.Unmarshal(m.Data, &info) == nil && info.Metadata["prefix"] == subjects.Prefix() {
			return true, nil
		}
	}
}
