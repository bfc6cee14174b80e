package ownership

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/natstest"
	"fleetbridge/bridge/local/wire"
)

// busyOnce is a server that is busy with another checked write, once.
type busyOnce struct {
	jetstream.JetStream
	tries int
}

func (b *busyOnce) PublishMsg(context.Context, *nats.Msg, ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if b.tries++; b.tries == 1 {
		return nil, &jetstream.APIError{Code: 400, ErrorCode: wire.CodeBusy}
	}
	return &jetstream.PubAck{Sequence: 7}, nil
}

// A write that meets a busy server is made again, and is no failure.
func TestFenceOfABusyServer(t *testing.T) {
	t.Parallel()
	busy := &busyOnce{}
	f := &Fence{js: busy, subject: "marker", writing: make(chan struct{}, 1)}
	if err := f.Write(natstest.Context(t), nats.NewMsg("key")); err != nil || busy.tries != 2 || f.Newest() != 7 {
		t.Errorf("after %d tries: %v", busy.tries, err)
	}
}
