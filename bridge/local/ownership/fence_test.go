package ownership

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/natstest"
	"fleetbridge/bridge/local/streams"
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

// still answers requests on a subject as a leader does that stands still for the first ones, until another one is elected.
func still(t *testing.T, nc *nats.Conn, subject, answer string, silent int) {
	t.Helper()
	if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
		if silent--; silent < 0 {
			_ = m.Respond([]byte(answer))
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// A leader that stands still takes questions and writes and answers none, until another one is elected: it is asked again.
func TestLeaderStandsStill(t *testing.T) {
	t.Parallel()
	nc := natstest.Connect(t)
	js, err := wire.JetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "STILL", Subjects: []string{"elsewhere"}}); err != nil {
		t.Fatal(err)
	}
	still(t, nc, "marker", `{"stream":"STILL","seq":7}`, 1)
	f, err := NewFence(t.Context(), &Term{Epoch: 7, ID: "a"}, js, "STILL", "marker")
	if err != nil {
		t.Fatalf("the marker is not put: %v", err)
	}
	still(t, nc, "key", `{"stream":"STILL","seq":9}`, 1)
	ctx, cancel := context.WithTimeout(t.Context(), streams.AnswerTime)
	defer cancel()
	if err := f.Write(ctx, nats.NewMsg("key")); err != nil || f.Newest() != 9 {
		t.Errorf("up to %d, %v", f.Newest(), err)
	}
}
