package local

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

func TestDelivery(t *testing.T) {
	t.Parallel()
	r := newRig(t, "com.acme 7")
	m := nats.NewMsg("fleets.up.com=2Eacme=207.events.door=2Eopen")
	m.Data = []byte(`{"n": 1.0}`)
	m.Header["Traceparent"] = []string{"00-1-2-01"}
	m.Header["tracestate"] = []string{"a=b"}
	before := time.Now().Add(-time.Second)
	if _, err := r.program().RequestMsg(m, patience); err != nil {
		t.Fatal(err)
	}
	q, _ := r.run("com.acme 7", mapping.Events)
	d := next(t, q)
	want := mapping.Address{Thing: "com.acme 7", Channel: mapping.Event, ID: "door.open"}
	if d.Address != want || string(d.Payload) != `{"n": 1.0}` || d.Trace != (bridge.Trace{Parent: "00-1-2-01", State: "a=b"}) ||
		d.Origin != m.Subject || d.Sequence == 0 || d.Err != nil || d.Received.Before(before) || d.Received.After(time.Now()) {
		t.Errorf("%+v", d)
	}
}

func TestSubjectThatIsNoAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	nc := r.program()
	for subject, stray := range map[string]string{
		"fleets.up.pump.events.a.b":  "pump.events.a.b",
		"fleets.up.pump.events.a=2e": "pump.events.a=2e",
	} {
		r.publish(nc, subject, `{}`)
		q, stop := r.run("pump", mapping.Events)
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
	queued, err := r.up().Queued(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return queued[thing]
}

// TestWindow: with a full window the lane waits, and goes on when something is settled.
func TestWindow(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{}, StoreConfig{Window: 3})
	nc := r.program()
	for i := range 10 {
		r.publish(nc, "fleets.up.pump.events.x", fmt.Sprint(i))
	}
	q, _ := r.run("pump", mapping.Events)
	for i := 10; i < 20; i++ {
		r.publish(nc, "fleets.up.pump.events.x", fmt.Sprint(i))
	}
	var open []bridge.Delivery
	for i := range 20 {
		d := next(t, q)
		if string(d.Payload) != fmt.Sprint(i) {
			t.Errorf("%s, want %d", d.Payload, i)
		}
		if open = append(open, d); len(open) == 2 {
			open[0].Settle()
			open = open[1:]
		}
	}
}

// TestLongNames: the names of Things are as long as they like.
func TestLongNames(t *testing.T) {
	t.Parallel()
	long := mapping.Thing(strings.Repeat("ü", 100))
	o := external(t, StoreConfig{Things: []mapping.Thing{long}})
	if _, err := o.nc.Request("fleets.up."+mapping.Token(string(long))+".jobs.get", []byte("1"), patience); err != nil {
		t.Fatal(err)
	}
	q, _ := o.store.run(t, long, mapping.Jobs)
	if d := next(t, q); d.Address.Thing != long {
		t.Errorf("%+v", d)
	}
}

// lossyQueue publishes n messages past the proxy while the queue runs through it.
func lossyQueue(t *testing.T, n int) (*breakable, *taking, *Store) {
	t.Helper()
	b := newBreakable(t)
	j := newJournal(t)
	j.forgive("NATS connection lost", "NATS error")
	nc, err := wire.Dial(testContext(t), wire.DialConfig{URL: b.url(), Log: j.log()})
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
	case <-time.After(patience):
		t.Fatal("not published")
	}
	q, _ := store.run(t, "pump", mapping.Events)
	return b, q, store
}

func TestEachOnceThroughLostConnections(t *testing.T) {
	t.Parallel()
	const n = 3000
	b, q, store := lossyQueue(t, n)
	var held []bridge.Delivery
	for i := range n {
		d := next(t, q)
		if string(d.Payload) != fmt.Sprint(i) {
			t.Fatalf("%s, want %d", d.Payload, i)
		}
		if held = append(held, d); len(held) == 16 { // settled late
			for _, d := range held {
				d.Settle()
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
	t.Parallel()
	dir := t.TempDir()
	j := newJournal(t)
	external := startPlain(t, -1, dir, true)
	url, port := external.ClientURL(), external.Addr().(*net.TCPAddr).Port
	j.forgive("NATS connection lost", "NATS error")
	nc, err := wire.Dial(testContext(t), wire.DialConfig{URL: url, Log: j.log()})
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
	q, _ := store.run(t, "pump", mapping.Events)
	next(t, q).Settle()
	one := next(t, q)

	external.Shutdown()
	external.WaitForShutdown()
	one.Settle() // while nobody is there
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

// A replica that stands still answers no question for many messages. The leader is asked then, and in time.
func TestReadFromAStillReplica(t *testing.T) {
	t.Parallel()
	o := external(t, StoreConfig{})
	ctx := testContext(t)
	for range 2 {
		if err := o.lanes().Publish(ctx, mapping.Address{Thing: "pump", Channel: mapping.Event, ID: "e"}, []byte("{}"), ""); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := o.store.js.Stream(ctx, o.store.lanes.flows[mapping.Telemetry].name)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.AllowDirect = false
	if _, err := o.store.js.UpdateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	asked, err := o.nc.SubscribeSync("$JS.API.DIRECT.GET." + config.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := o.store.TakeOver(ctx, "pump"); err != nil {
		t.Fatal(err)
	}
	u := o.store.lanes
	l := u.known(keyOf("pump", mapping.Events))
	messages, err := u.read(ctx, l, stream.CachedInfo().State.LastSeq-1, few+1)
	if n, _, _ := asked.Pending(); err != nil || len(messages) != 1 || n == 0 {
		t.Errorf("%d messages, %v; the replica was asked %d times", len(messages), err, n)
	}
}
