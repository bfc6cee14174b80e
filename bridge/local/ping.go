package local

import (
	"context"
	"fmt"

	"fleetbridge/bridge/local/wire"

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
