package local

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// down stores one message and waits for it.
func down(t *testing.T, r *rig, m bridge.Message) {
	t.Helper()
	sink := r.store.Down()
	send(t, func(ctx context.Context, done func(error)) error { return sink.Send(ctx, m, done) })
}

func TestDownMessage(t *testing.T) {
	r := newRig(t)
	nc := r.program()
	sub, err := nc.SubscribeSync("fleets.down.>")
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.Flush()
	down(t, r, bridge.Message{
		Address: mapping.Address{Thing: "pump", Channel: mapping.CommandRequest, ID: "e.1"}, Payload: []byte(`{"action":"purge", "n":1.0}`),
		Received: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)),
		Trace:    bridge.Trace{Parent: "00-1-2-01", State: "a=b"}, Source: "shadow-get",
	})
	m, err := sub.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != "fleets.down.pump.commands.e=2E1.request" || string(m.Data) != `{"action":"purge", "n":1.0}` || m.Reply != "" {
		t.Errorf("%s %s reply %q", m.Subject, m.Data, m.Reply)
	}
	for key, want := range map[string]string{
		"Fleets-Thing": "pump", "Fleets-Channel": "command.request", "Fleets-Topic": "$emqx/commands/things/pump/executions/e.1/request",
		"Fleets-Received": "2026-01-02T02:04:05.000000006Z", "Fleets-Source": "shadow-get", "traceparent": "00-1-2-01", "tracestate": "a=b",
	} {
		if got := m.Header.Get(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if ids := m.Header.Get("Nats-Msg-Id"); ids == "" {
		t.Error("no message id")
	}
}

func TestWhatProgramsPublishDownwardsIsNotStored(t *testing.T) {
	r := newRig(t)
	nc := r.program()
	_ = nc.Publish("fleets.down.pump.jobs.notify", []byte("lie"))
	_ = nc.Flush()
	if _, err := r.store.Last(testContext(t), mapping.Address{Thing: "pump", Channel: mapping.JobsNotify}); !errors.Is(err, bridge.ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

func TestTooLargeForNATS(t *testing.T) {
	r := newRig(t)
	done := make(chan error, 1)
	m := bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.JobsNotify}, Payload: make([]byte, 1<<20)}
	if err := r.store.Down().Send(testContext(t), m, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	var rejection *bridge.Rejection
	if err := <-done; !errors.As(err, &rejection) || rejection.Code != bridge.CodeTooLarge {
		t.Errorf("error %v", err)
	}
	down(t, r, bridge.Message{Address: m.Address}) // the window is free
}

// sequence sends numbered messages from another goroutine and tells how many are stored.
func sequence(ctx context.Context, p *publisher, subject string, n int) <-chan int {
	stored := make(chan int, n)
	go func() {
		for i := range n {
			m := nats.NewMsg(subject)
			m.Data = []byte(fmt.Sprint(i))
			if p.send(ctx, m, func(err error) {
				if err == nil {
					stored <- i
				}
			}) != nil {
				return
			}
		}
	}()
	return stored
}

func waitFor(t *testing.T, stored <-chan int, n int) {
	t.Helper()
	for i := range n {
		select {
		case <-stored:
		case <-time.After(20 * time.Second):
			t.Fatalf("%d of %d stored", i, n)
		}
	}
}

// inOrder reads a stream and wants 0, 1, 2, … n-1, each once.
func inOrder(t *testing.T, js jetstream.JetStream, stream string, n int) {
	t.Helper()
	consumer, err := js.OrderedConsumer(testContext(t), stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	for i := range n {
		m, err := messages.Next(jetstream.NextMaxWait(10 * time.Second))
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if string(m.Data()) != fmt.Sprint(i) {
			t.Fatalf("message %d is %s", i, m.Data())
		}
	}
	s, _ := js.Stream(testContext(t), stream)
	if got := s.CachedInfo().State.Msgs; got != uint64(n) {
		t.Errorf("%d messages, want %d", got, n)
	}
}

func TestOrderThroughFailures(t *testing.T) {
	r := newRig(t)
	ctx := testContext(t)
	js := r.store.js
	p, err := newPublisher(r.nc, "test", r.journal.log())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	const n = 2000
	stored := sequence(ctx, p, "order.x", n)
	r.journal.expect(t, "WARN cannot store", "what=test", "no stream answers") // there is no stream yet
	config := jetstream.StreamConfig{Name: "ORDER", Subjects: []string{"order.>"}, Discard: jetstream.DiscardNew, MaxMsgs: 10}
	if _, err := js.CreateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	waitFor(t, stored, 10)
	r.journal.expect(t, "INFO storing again")
	eventually(t, "the full stream is noticed", func() bool { return r.journal.count("WARN cannot store") == 2 })
	r.journal.expect(t, "WARN cannot store", "maximum messages exceeded")
	config.MaxMsgs = -1
	if _, err := js.UpdateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	waitFor(t, stored, n-10)
	inOrder(t, js, "ORDER", n)
	if got := r.journal.count("WARN cannot store"); got != 2 {
		t.Errorf("%d warnings, want one for each episode", got)
	}
	if got := r.journal.count("INFO storing again"); got != 2 {
		t.Errorf("%d recoveries logged", got)
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	r := newRig(t)
	p, err := newPublisher(r.nc, "test", r.journal.log())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int)
	go func() {
		i := 0
		for p.send(ctx, nats.NewMsg("nobody.x"), func(error) { t.Error("done is called") }) == nil {
			i++
		}
		ended <- i
	}()
	r.journal.expect(t, "WARN cannot store")
	eventually(t, "a full window", func() bool { return len(p.window) == publishWindow })
	cancel()
	if n := <-ended; n != publishWindow {
		t.Errorf("%d taken", n)
	}
	eventually(t, "the window is free again", func() bool { return len(p.window) == 0 })
}

func TestOrderThroughLostConnections(t *testing.T) {
	external := newBreakable(t)
	j := newJournal(t)
	j.forgive("cannot store", "NATS connection lost", "NATS error")
	nc, err := Dial(testContext(t), DialConfig{URL: external.url(), Log: j.log()})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	store, err := Open(testContext(t), nc, StoreConfig{Subjects: subjects(t), Things: []mapping.Thing{"pump"}}, j.log())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	const n = 5000
	stored := sequence(testContext(t), store.toDown, "_fleets.down.pump.jobs.notify", n)
	for range 4 {
		waitFor(t, stored, n/10)
		external.cut()
	}
	waitFor(t, stored, n-4*(n/10))
	inOrder(t, external.js(t), "FLEETS_DOWN", n)
}

func TestLiveSubscribersSeeNothingEarly(t *testing.T) {
	r := newRig(t)
	nc := r.program()
	seen := make(chan *nats.Msg, 100)
	if _, err := nc.ChanSubscribe("fleets.>", seen); err != nil {
		t.Fatal(err)
	}
	_ = nc.Flush()
	for i := range 10 {
		down(t, r, bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.JobsNotify}, Payload: []byte(strings.Repeat("x", i))})
	}
	for i := range 10 {
		m := <-seen
		if len(m.Data) != i || m.Header.Get("Nats-Sequence") != fmt.Sprint(i+1) {
			t.Errorf("message %d: %s, sequence %s", i, m.Data, m.Header.Get("Nats-Sequence"))
		}
	}
}
