package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/services"
	"fleetbridge/mapping"
)

// slowCloud answers when it is told to, and says which answers were not heard.
type slowCloud struct {
	asked   chan string
	answer  chan error
	unheard chan string
}

func newSlowCloud() *slowCloud {
	return &slowCloud{make(chan string, 1), make(chan error, 1), make(chan string, 1)}
}

func (c *slowCloud) Handle(ctx context.Context, r bridge.Request) (bridge.Response, error) {
	payload := string(r.Payload)
	c.asked <- payload
	select {
	case err := <-c.answer:
		return bridge.Response{Payload: []byte("to " + payload), Unheard: func(context.Context) { c.unheard <- payload }}, err
	case <-ctx.Done():
		return bridge.Response{}, ctx.Err()
	}
}

// abandon asks and is gone when the answer comes.
func (c *slowCloud) abandon(t *testing.T, nc *nats.Conn, payload string, err error) {
	t.Helper()
	inbox := nc.NewInbox()
	sub, e := nc.SubscribeSync(inbox + ".*")
	if e != nil {
		t.Fatal(e)
	}
	if err := nc.PublishRequest("fleets.req.a.jobs.get", inbox+".x", []byte(payload)); err != nil {
		t.Fatal(err)
	}
	<-c.asked
	if err := sub.Unsubscribe(); err != nil { // as the server does for a connection that is lost
		t.Fatal(err)
	}
	flush(t, nc)
	c.answer <- err
	select {
	case got := <-c.unheard:
		if got != payload {
			t.Errorf("%q was not heard, want %q", got, payload)
		}
	case <-time.After(patience):
		t.Fatalf("the answer to %q counts as heard", payload)
	}
}

// check has some ask and stay, and others ask and go.
func (c *slowCloud) check(t *testing.T, bridges, program *nats.Conn) {
	t.Helper()
	before := bridges.NumSubscriptions()
	for i := range 3 {
		c.abandon(t, program, fmt.Sprint("gone ", i), nil)
		c.answer <- nil
		m, err := program.Request("fleets.req.a.jobs.get", fmt.Append(nil, "here ", i), patience)
		if err != nil || string(m.Data) != fmt.Sprint("to here ", i) {
			t.Fatalf("%v, %v", m, err)
		}
		<-c.asked
	}
	c.abandon(t, program, "rejected", errors.New("no"))
	eventually(t, "nothing is left", func() bool { return bridges.NumSubscriptions() == before })
	select {
	case payload := <-c.unheard:
		t.Errorf("%q was heard", payload)
	default:
	}
}

// An answer whose asker is gone is found to be so, and one that is heard is not.
func TestUnheardAnswers(t *testing.T) {
	t.Parallel()
	c, r := newSlowCloud(), newRig(t, "a")
	s, err := services.Serve(r.nc, c, services.Config{Subjects: r.subjects, Version: "1.0.0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	c.check(t, r.nc, r.program())
}

// The same between accounts.
func TestUnheardAnswersOfUsers(t *testing.T) {
	t.Parallel()
	inYards(t, []access.User{{Name: "alice", Things: []mapping.Thing{"a"}}}, func(t *testing.T, y *yard) {
		c := newSlowCloud()
		y.other.Store(c) // not a second service: the first one's subscriptions would end some time later
		c.check(t, y.nc, y.as("alice"))
	})
}
