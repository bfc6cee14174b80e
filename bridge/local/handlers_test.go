package local

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/services"
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

// TestWhoWatchesIsNamed: an external server delivers a command to whoever only watches, too. Then it is said who that is.
func TestWhoWatchesIsNamed(t *testing.T) {
	t.Parallel()
	o := external(t, StoreConfig{})
	nc, err := nats.Connect(o.nc.ConnectedUrl(), nats.Name("who looks on"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	got, err := nc.SubscribeSync("fleets.>")
	if err != nil {
		t.Fatal(err)
	}
	flush(t, nc)
	line, err := services.NewHandlers(o.store.nc, o.store.cfg.Subjects, nil, o.store.Replies()).Listen("pump", "x")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(line.Close)
	ctx, cancel := context.WithTimeout(testContext(t), 100*time.Millisecond)
	defer cancel()
	_, err = line.Call(ctx, bridge.Call{Thing: "pump", Action: "purge", Execution: "e"})
	var silent *bridge.Unanswered
	if !errors.As(err, &silent) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(silent.Heard, "who looks on") || !strings.Contains(silent.Heard, "fleets.>") {
		t.Errorf("%+v", err)
	}
	flush(t, nc)
	if n, _, err := got.Pending(); n != 1 || err != nil {
		t.Errorf("%d messages, %v", n, err)
	}
}
