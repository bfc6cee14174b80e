package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

func TestDelivery(t *testing.T) {
	r := newRig(t, "com.acme 7")
	m := nats.NewMsg("fleets.up.com=2Eacme=207.events.door=2Eopen")
	m.Data = []byte(`{"n": 1.0}`)
	m.Header["Traceparent"] = []string{"00-1-2-01"}
	m.Header["tracestate"] = []string{"a=b"}
	before := time.Now().Add(-time.Second)
	if _, err := r.program().RequestMsg(m, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	q, _ := r.run("com.acme 7", mapping.Telemetry)
	d := next(t, q)
	want := mapping.Address{Thing: "com.acme 7", Channel: mapping.Event, ID: "door.open"}
	if d.Address != want || string(d.Payload) != `{"n": 1.0}` || d.Trace != (bridge.Trace{Parent: "00-1-2-01", State: "a=b"}) ||
		d.Origin != m.Subject || d.Sequence != 1 || d.Err != nil || d.Received.Before(before) || d.Received.After(time.Now()) {
		t.Errorf("%+v", d)
	}
}

func TestSubjectThatIsNoAddress(t *testing.T) {
	r := newRig(t, "pump")
	nc := r.program()
	for subject, stray := range map[string]string{
		"fleets.up.pump.events.a.b":  "pump.events.a.b",
		"fleets.up.pump.events.a=2e": "pump.events.a=2e",
	} {
		r.publish(nc, subject, `{}`)
		q, stop := r.run("pump", mapping.Telemetry)
		d := next(t, q)
		var rejection *bridge.Rejection
		if !errors.As(d.Err, &rejection) || rejection.Code != bridge.CodeSubject || !strings.Contains(rejection.Reason, subject) ||
			d.Stray != stray || d.Origin != subject || d.Address.Channel != "" {
			t.Errorf("%s: %+v", subject, d)
		}
		d.Settle()
		eventually(t, "settled", func() bool { return queuedOf(t, r, "pump") == 0 })
		stop()
	}
}

func queuedOf(t *testing.T, r *rig, thing mapping.Thing) uint64 {
	t.Helper()
	queued, err := r.store.Queued(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return queued[thing]
}

func TestClassesAndThingsAreApart(t *testing.T) {
	r := newRig(t, "a", "b")
	nc := r.program()
	for _, s := range []string{"a.events.x", "b.jobs.get", "a.jobs.get", "b.shadow.update"} {
		r.publish(nc, "fleets.up."+s, s)
	}
	for _, c := range []struct {
		thing mapping.Thing
		class mapping.Class
		want  string
	}{{"a", mapping.Control, "a.jobs.get"}, {"a", mapping.Telemetry, "a.events.x"}, {"b", mapping.Control, "b.jobs.get"}, {"b", mapping.Telemetry, "b.shadow.update"}} {
		q, _ := r.run(c.thing, c.class)
		if d := next(t, q); string(d.Payload) != c.want {
			t.Errorf("%s %s: %s", c.thing, c.class, d.Payload)
		}
	}
}

func TestOrderAcrossRestart(t *testing.T) {
	r := newRigWith(t, ServerConfig{}, StoreConfig{Window: 8})
	nc := r.program()
	const n = 300
	for i := range n / 2 {
		r.publish(nc, "fleets.up.pump.events.x", fmt.Sprint(i))
	}
	q, stop := r.run("pump", mapping.Telemetry)
	for i := range 8 { // the window: no more comes before something is settled
		if d := next(t, q); string(d.Payload) != fmt.Sprint(i) {
			t.Fatalf("%s, want %d", d.Payload, i)
		} else if i < 4 {
			d.Settle()
		}
	}
	eventually(t, "four settled", func() bool { return queuedOf(t, r, "pump") == n/2-4 })
	stop()
	r.stop()
	r.start(ServerConfig{}, StoreConfig{Window: 8})
	nc = r.program()
	for i := n / 2; i < n; i++ {
		r.publish(nc, "fleets.up.pump.events.x", fmt.Sprint(i))
	}
	q, _ = r.run("pump", mapping.Telemetry)
	for i := range n {
		if i < 4 {
			continue
		}
		d := next(t, q)
		if string(d.Payload) != fmt.Sprint(i) {
			t.Fatalf("%s, want %d", d.Payload, i)
		}
		d.Settle()
	}
	eventually(t, "all settled", func() bool { return queuedOf(t, r, "pump") == 0 })
}

// TestWindow: with a full window the queue waits, and goes on when something is settled; both where the
// stream is told of each message, and where it is told of many together.
func TestWindow(t *testing.T) {
	for name, relaxed := range map[string]bool{"forgetting": false, "acknowledging": true} {
		t.Run(name, func(t *testing.T) {
			r := newRigWith(t, ServerConfig{SyncInterval: time.Second}, StoreConfig{Window: 3, Relaxed: relaxed})
			nc := r.program()
			for i := range 20 {
				r.publish(nc, "fleets.up.pump.events.x", fmt.Sprint(i))
			}
			q, _ := r.run("pump", mapping.Telemetry)
			open := []bridge.Delivery{next(t, q), next(t, q), next(t, q)}
			if d, ok := soon(q, 50*time.Millisecond); ok {
				t.Fatalf("a fourth: %s", d.Payload)
			}
			for i := 3; i < 20; i++ {
				open[0].Settle()
				d := next(t, q)
				if string(d.Payload) != fmt.Sprint(i) {
					t.Errorf("%s, want %d", d.Payload, i)
				}
				open = append(open[1:], d)
			}
		})
	}
}

func TestTakenOver(t *testing.T) {
	r := newRig(t, "pump")
	nc := r.program()
	r.publish(nc, "fleets.up.pump.events.x", "1")
	first, err := r.store.Queue(testContext(t), "pump", mapping.Telemetry)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- first.Run(testContext(t)) }()
	next(t, first)
	second, _ := r.run("pump", mapping.Telemetry)
	select {
	case err := <-ended:
		if !errors.Is(err, ErrTakenOver) || !strings.Contains(err.Error(), "pump") {
			t.Errorf("error %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the first goes on")
	}
	if d := next(t, second); string(d.Payload) != "1" {
		t.Errorf("%s", d.Payload)
	}
}

func TestForeignConsumer(t *testing.T) {
	r := newRig(t, "pump")
	r.publish(r.program(), "fleets.up.pump.events.x", "1")
	_, err := r.store.js.CreateConsumer(testContext(t), "FLEETS_UP_TELEMETRY", jetstream.ConsumerConfig{Durable: "mine", FilterSubject: "fleets.up.pump.events.>", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.store.Queue(testContext(t), "pump", mapping.Telemetry)
	if err == nil || !containsAll(err.Error(), []string{"stream FLEETS_UP_TELEMETRY", "fleets.up.pump.>", "nats consumer ls FLEETS_UP_TELEMETRY"}) {
		t.Errorf("error %v", err)
	}
}

func TestConsumerName(t *testing.T) {
	long := mapping.Thing(strings.Repeat("ü", 100))
	for thing, want := range map[mapping.Thing]string{"pump": "pump", "com.acme 7": "com=2Eacme=207"} {
		if got := consumerName(thing); got != want {
			t.Errorf("%s: %s", thing, got)
		}
	}
	name := consumerName(long)
	if len(name) > 200 || name == consumerName(long+"x") {
		t.Errorf("name %s", name)
	}
	if _, err := mapping.Untoken(name); err == nil {
		t.Error("the hash is a legal token")
	}
	r := newRig(t, long)
	r.publish(r.program(), "fleets.up."+mapping.Token(string(long))+".jobs.get", "1")
	q, _ := r.run(long, mapping.Control)
	if d := next(t, q); d.Address.Thing != long {
		t.Errorf("%+v", d)
	}
}

// lossyQueue publishes n messages past the proxy while the queue runs through it.
func lossyQueue(t *testing.T, n int) (*breakable, *Queue, *Store) {
	t.Helper()
	b := newBreakable(t)
	j := newJournal(t)
	j.forgive("NATS connection lost", "NATS error")
	nc, err := Dial(testContext(t), DialConfig{URL: b.url(), Log: j.log()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	store, err := Open(testContext(t), nc, StoreConfig{Subjects: subjects(t), Things: []mapping.Thing{"pump"}, Window: 32}, j.log())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	js := b.js(t)
	for i := range n {
		if _, err := js.PublishAsync("fleets.up.pump.events.x", []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(20 * time.Second):
		t.Fatal("not published")
	}
	q, err := store.Queue(testContext(t), "pump", mapping.Telemetry)
	if err != nil {
		t.Fatal(err)
	}
	return b, q, store
}

func start(t *testing.T, q *Queue) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("queue: %v", err)
		}
	})
}

func TestEachOnceThroughLostConnections(t *testing.T) {
	const n = 3000
	b, q, store := lossyQueue(t, n)
	start(t, q)
	var held []bridge.Delivery
	for i := range n {
		d := next(t, q)
		if string(d.Payload) != fmt.Sprint(i) {
			t.Fatalf("%s, want %d", d.Payload, i)
		}
		if held = append(held, d); len(held) == 16 { // settled late and out of order
			for k := range held {
				held[len(held)-1-k].Settle()
			}
			held = nil
		}
		if i%700 == 699 {
			b.cut()
		}
	}
	for _, d := range held {
		d.Settle()
	}
	eventually(t, "all settled", func() bool {
		queued, err := store.Queued(testContext(t))
		return err == nil && queued["pump"] == 0
	})
	if q.ready.len() > 0 {
		t.Errorf("once more: %s", next(t, q).Payload)
	}
}

func TestExternalServerRestart(t *testing.T) {
	dir := t.TempDir()
	j := newJournal(t)
	external := startPlain(t, -1, dir, true)
	url, port := external.ClientURL(), external.Addr().(*net.TCPAddr).Port
	j.forgive("NATS connection lost", "NATS error")
	nc, err := Dial(testContext(t), DialConfig{URL: url, Log: j.log()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	store, err := Open(testContext(t), nc, StoreConfig{Subjects: subjects(t), Things: []mapping.Thing{"pump"}}, j.log())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	a := mapping.Address{Thing: "pump", Channel: mapping.Event, ID: "x"}
	for i := range 3 {
		if _, err := store.Enqueue(testContext(t), a, []byte(fmt.Sprint(i)), bridge.Trace{}); err != nil {
			t.Fatal(err)
		}
	}
	q, err := store.Queue(testContext(t), "pump", mapping.Telemetry)
	if err != nil {
		t.Fatal(err)
	}
	start(t, q)
	zero := next(t, q)
	next(t, q).Settle()

	external.Shutdown()
	external.WaitForShutdown()
	zero.Settle() // while nobody is there
	startPlain(t, port, dir, true)
	if d := next(t, q); string(d.Payload) != "2" {
		t.Errorf("%s", d.Payload)
	}
	// Until then a message goes down with the old connection, and its sender waits for nothing.
	eventually(t, "connected again", func() bool { return nc.Stats().Reconnects > 0 && nc.IsConnected() })
	eventually(t, "a new message is stored", func() bool {
		_, err := store.Enqueue(testContext(t), a, []byte("3"), bridge.Trace{})
		return err == nil
	})
	if d := next(t, q); string(d.Payload) != "3" {
		t.Errorf("%s", d.Payload)
	}
	eventually(t, "two are left", func() bool {
		queued, err := store.Queued(testContext(t))
		return err == nil && queued["pump"] == 2
	})
}
