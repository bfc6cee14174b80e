package local

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/services"
	"fleetbridge/mapping"
)

type handle func(ctx context.Context, r bridge.Request) (bridge.Response, error)

func (h handle) Handle(ctx context.Context, r bridge.Request) (bridge.Response, error) {
	return h(ctx, r)
}

// What a handler replies to the call of a bridge that is gone, the next one hears, between accounts too.
func TestReplyToAnEarlierCall(t *testing.T) {
	t.Parallel()
	inYards(t, []access.User{{Name: "alice", Things: []mapping.Thing{"a"}}}, func(t *testing.T, y *yard) {
		calls := make(chan *nats.Msg, 1)
		alice := y.as("alice")
		if _, err := alice.ChanSubscribe("fleets.cmd.a.purge", calls); err != nil {
			t.Fatal(err)
		}
		flush(t, alice)
		h := services.NewHandlers(y.nc, y.subjects, y.server.NATS(), nil)
		first, err := h.Listen("a", "secret")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(testContext(t))
		ended := make(chan error, 1)
		go func() {
			_, err := first.Call(ctx, bridge.Call{Thing: "a", Action: "purge", Execution: "e"})
			ended <- err
		}()
		call := <-calls
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		first.Close()
		second, err := h.Listen("a", "secret")
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		flush(t, y.nc)
		if err := call.Respond([]byte("done")); err != nil {
			t.Fatal(err)
		}
		if reply, err := second.Wait(testContext(t)); err != nil || string(reply.Payload) != "done" {
			t.Errorf("%+v, %v", reply, err)
		}
	})
}

// TestIllegibleRequests: a request whose headers can't be read is refused, whoever sends it, and not carried out as if it
// had none.
func TestIllegibleRequests(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"alice", ""} {
		config := embedded.Config{}
		if name != "" {
			config.Users = []access.User{{Name: name, Password: "secret", Things: []mapping.Thing{"pump"}}}
		}
		r := newRigWith(t, config, StoreConfig{})
		r.journal.forgive("could not decode headers")
		var handled atomic.Int32
		s, err := services.Serve(r.nc, handle(func(context.Context, bridge.Request) (bridge.Response, error) {
			handled.Add(1)
			return bridge.Response{Payload: []byte("{}")}, nil
		}), services.Config{Subjects: r.subjects, Version: "1.0.0", Log: r.journal.log()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		c := rawLogin(t, r.server.URL(), name)
		for _, block := range []string{"NATS/1.0\r\nnocolon\r\n\r\n", "NATS/1.0\r\nFleets-Timeout 5s\r\nX: y\r\n\r\n", "NATS/2.0\r\nX: y\r\n\r\n", "nonsense\r\n\r\n", "\r\n\r\n"} {
			for _, subject := range []string{"fleets.req.pump.jobs.get", "fleets.req.pump.shadow.get", "fleets.req.pump.events.x"} {
				if header, answer := c.request(name, subject, block, "{}"); !strings.Contains(header, "Nats-Service-Error-Code: 400") {
					t.Errorf("%q, %q on %s: %q %q", name, block, subject, header, answer)
				}
			}
		}
		if header, answer := c.request(name, "fleets.req.pump.jobs.get", "", "{}"); answer != "{}" {
			t.Errorf("without headers: %q %q", header, answer)
		}
		if handled.Load() != 1 {
			t.Errorf("%d are carried out", handled.Load())
		}
	}
}
