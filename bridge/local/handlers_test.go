package local

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
)

// TestWhoWatchesIsNoHandler: a command that only subscribers to more than commands would get has no handler.
func TestWhoWatchesIsNoHandler(t *testing.T) {
	t.Parallel()
	r := newRig(t, "a")
	nc := r.program()
	for _, subject := range []string{">", "fleets.>", "fleets.*.a.>", "*.*.*.*"} {
		if _, err := nc.QueueSubscribe(subject, "watchers", func(*nats.Msg) {}); err != nil {
			t.Fatal(err)
		}
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, nc)
	command := bridge.Call{Thing: "a", Action: "purge", Execution: "e"}
	if _, err := call(testContext(t), r, command); !errors.Is(err, bridge.ErrNoHandler) {
		t.Errorf("with watchers alone: %v", err)
	}
	for _, subject := range []string{"fleets.cmd.a.purge", "fleets.cmd.a.>", "fleets.cmd.>", "fleets.cmd.*.purge"} {
		sub, err := nc.QueueSubscribe(subject, "handlers", func(m *nats.Msg) { _ = m.Respond([]byte(`{"status":"SUCCEEDED"}`)) })
		if err != nil {
			t.Fatal(err)
		}
		flush(t, nc)
		ctx, cancel := context.WithTimeout(testContext(t), patience)
		if _, err := call(ctx, r, command); err != nil {
			t.Errorf("%s: %v", subject, err)
		}
		cancel()
		_ = sub.Unsubscribe()
	}
}
