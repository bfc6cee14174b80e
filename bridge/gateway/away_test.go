package gateway

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/wire"
)

// TestAway: a bridge that takes things over while its connection is made anew waits for it, and does not end.
func TestAway(t *testing.T) {
	t.Parallel()
	const patience = 2 * time.Minute
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server does not start")
	}
	nc, err := nats.Connect(s.ClientURL(), wire.ConnOptions("test", slog.New(slog.DiscardHandler))...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := wire.JetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	lost := nc.StatusChanged(nats.RECONNECTING)
	s.Shutdown()
	select {
	case <-lost:
	case <-time.After(patience):
		t.Fatal("the connection is not lost")
	}
	if _, err := js.Stream(t.Context(), "any"); !away(err) {
		t.Errorf("between two connections a question fails for good: %v", err)
	}
	if err := nc.PublishMsg(nats.NewMsg("any")); !away(err) {
		t.Errorf("between two connections a message fails for good: %v", err)
	}
}
