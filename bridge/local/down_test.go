package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// down stores one message and waits for it.
func down(t *testing.T, r *rig, m bridge.Message) {
	t.Helper()
	sink := r.store.Down()
	send(t, func(ctx context.Context, done func(error)) error { return sink.Send(ctx, m, done) })
	r.seen()
}

func TestDownMessage(t *testing.T) {
	t.Parallel()
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
	m, err := sub.NextMsg(patience)
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
	if number := m.Header.Get("Fleets-Number"); !strings.Contains(number, ".") {
		t.Errorf("number %q", number)
	}
}

func TestTooLargeForNATS(t *testing.T) {
	t.Parallel()
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
		case <-time.After(patience):
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
		m, err := messages.Next(jetstream.NextMaxWait(patience))
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
	t.Parallel()
	for _, batches := range []bool{false, true} {
		t.Run(fmt.Sprintf("batches %v", batches), func(t *testing.T) { orderThroughFailures(t, batches) })
	}
}

func orderThroughFailures(t *testing.T, batches bool) {
	r := newRig(t)
	js := r.store.js
	p := newPublisher(r.nc, "test", batches, nil, r.journal.log())
	defer p.close()
	const n, room = 2000, streams.GroupMax + 10 // the first group fits, the second does not
	stored := sequence(testContext(t), p, "order.x", n)
	r.journal.expect(t, "WARN cannot store", "what=test", "no responders") // there is no stream yet
	config := jetstream.StreamConfig{Name: "ORDER", Subjects: []string{"order.>"}, Discard: jetstream.DiscardNew, MaxMsgs: room, AllowAtomicPublish: batches}
	if _, err := js.CreateStream(testContext(t), config); err != nil {
		t.Fatal(err)
	}
	r.journal.expect(t, "INFO storing again")
	eventually(t, "the full stream is noticed", func() bool { return r.journal.count("WARN cannot store") == 2 })
	r.journal.expect(t, "WARN cannot store", "maximum messages exceeded")
	config.MaxMsgs = -1
	if _, err := js.UpdateStream(testContext(t), config); err != nil {
		t.Fatal(err)
	}
	waitFor(t, stored, n)
	inOrder(t, js, "ORDER", n)
	if got := r.journal.count("WARN cannot store"); got != 2 {
		t.Errorf("%d warnings, want one for each episode", got)
	}
	eventually(t, "both recoveries are logged", func() bool { return r.journal.count("INFO storing again") == 2 })
}

// A message that can never be stored must not take its group with it.
func TestOneTooLargeInAGroup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.journal.forgive("message size exceeds")
	config := jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"small.>"}, MaxMsgSize: 1000, AllowAtomicPublish: true}
	if _, err := r.store.js.CreateStream(testContext(t), config); err != nil {
		t.Fatal(err)
	}
	p := &publisher{nc: r.nc, nonce: "n", atomic: true, ended: make(chan struct{}), back: make(chan struct{})}
	var group []*parcel
	var got []error
	for i := range 3 {
		m := nats.NewMsg("small.x")
		m.Data = make([]byte, 10+i%2*5000)
		group = append(group, &parcel{m, func(err error) { got = append(got, err) }})
	}
	if !p.store(group) {
		t.Fatal("not stored")
	}
	var rejection *bridge.Rejection
	if len(got) != 3 || got[0] != nil || !errors.As(got[1], &rejection) || got[2] != nil {
		t.Errorf("%v", got)
	}
}

// A group that was stored although its PubAck was lost is not stored twice.
func TestLostPubAckOfAGroup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.groups(t, "FLEETS_DOWN")
	p := &publisher{nc: r.nc, nonce: "n", atomic: true, ended: make(chan struct{}), back: make(chan struct{})}
	var group []*parcel
	for i := range 5 {
		m := nats.NewMsg("_fleets.down.pump.jobs.notify")
		m.Data = []byte(fmt.Sprint(i))
		m.Header.Set("Nats-Msg-Id", fmt.Sprint("id-", i))
		group = append(group, &parcel{m, func(error) {}})
	}
	for range 2 {
		if err := p.try(group); err != nil {
			t.Fatal(err)
		}
	}
	inOrder(t, r.store.js, "FLEETS_DOWN", len(group))
}

// A leader that stands still answers nothing: what it was sent is sent again before anybody worries. A group whose PubAck
// was lost is not stored a second time, message by message, because the next try breaks under a new leader.
func TestStillLeaderOfAGroup(t *testing.T) {
	t.Parallel()
	for name, tries := range map[string][]func(*nats.Msg) bool{
		"it took nothing":              {func(m *nats.Msg) bool { return false }},
		"it stored it, the next broke": {func(m *nats.Msg) bool { m.Reply = ""; return true }, func(m *nats.Msg) bool { return string(m.Data) != "1" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			config := jetstream.StreamConfig{Name: "STILL", Subjects: []string{"behind.*"}, AllowAtomicPublish: true}
			if _, err := r.store.js.CreateStream(testContext(t), config); err != nil {
				t.Fatal(err)
			}
			batches := map[string]int{}
			if _, err := r.nc.Subscribe("still.x", func(m *nats.Msg) {
				id := m.Header.Get(wire.HeaderBatchID)
				if _, known := batches[id]; !known {
					batches[id] = len(batches)
				}
				if m.Subject = "behind.x"; batches[id] >= len(tries) || tries[batches[id]](m) {
					_ = r.nc.PublishMsg(m)
				}
			}); err != nil {
				t.Fatal(err)
			}
			p := &publisher{nc: r.nc, nonce: "n", atomic: true, ended: make(chan struct{}), back: make(chan struct{})}
			p.tries.log, p.tries.note = r.journal.log(), func(reason string) { t.Errorf("somebody worries: %s", reason) }
			var group []*parcel
			stored := 0
			for i := range 5 {
				m := nats.NewMsg("still.x")
				m.Data = []byte(fmt.Sprint(i))
				group = append(group, &parcel{m, func(err error) {
					if stored++; err != nil {
						t.Error(err)
					}
				}})
			}
			if !p.store(group) || stored != len(group) {
				t.Fatalf("%d are stored", stored)
			}
			inOrder(t, r.store.js, "STILL", len(group))
		})
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := newPublisher(r.nc, "test", false, nil, r.journal.log())
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
	eventually(t, "a full window", func() bool { return len(p.queue) == publishWindow })
	cancel()
	if n := <-ended; n != publishWindow+1 { // and the one that is being tried
		t.Errorf("%d taken", n)
	}
}

func TestOrderThroughLostConnections(t *testing.T) {
	t.Parallel()
	external := newBreakable(t)
	j := newJournal(t)
	j.forgive("cannot store", "NATS connection lost", "NATS error")
	nc, err := wire.Dial(testContext(t), wire.DialConfig{URL: external.url(), Log: j.log()})
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
	t.Parallel()
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

// A message from the cloud has each header once, and costs few allocations.
func TestCostOfDownMessage(t *testing.T) {
	names, err := mapping.NewSubjects("fleets")
	if err != nil {
		t.Fatal(err)
	}
	m := bridge.Message{
		Address: mapping.Address{Thing: "pump", Channel: mapping.ShadowDelta}, Payload: []byte("{}"), Received: time.Unix(1700000000, 5).UTC(),
		Source: bridge.SourceShadowGet, Trace: bridge.Trace{Parent: "00-1-2-01", State: "a=b"},
	}
	got := wire.DownMessage(names, m)
	want := nats.Header{
		"Fleets-Thing": {"pump"}, "Fleets-Channel": {"shadow.delta"}, "Fleets-Received": {"2023-11-14T22:13:20.000000005Z"}, "Fleets-Source": {"shadow-get"},
		"traceparent": {"00-1-2-01"}, "tracestate": {"a=b"}, "Fleets-Topic": {"$emqx/things/pump/shadow/update/delta"},
	}
	if got.Subject != "_fleets.down.pump.shadow.update.delta" || !maps.EqualFunc(got.Header, want, slices.Equal) || string(got.Data) != "{}" {
		t.Errorf("got %+v", got)
	}
	const most = 8
	if n := testing.AllocsPerRun(100, func() { wire.DownMessage(names, m) }); n > most {
		t.Errorf("%.0f allocations, want at most %d", n, most)
	}
}
