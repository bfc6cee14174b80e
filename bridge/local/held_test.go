package local

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/natstest"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// TestManySubjects: a program invents so many event types that a list of them costs the bridge its connection.
func TestManySubjects(t *testing.T) {
	t.Parallel()
	const types, pending = 4800, 8 << 20
	ctx, j := testContext(t), newJournal(t)
	url := natstest.Start(t, &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), MaxPending: pending}).ClientURL()
	var nc *nats.Conn
	open := func() *Store {
		t.Helper()
		var err error
		if nc, err = wire.Dial(ctx, wire.DialConfig{URL: url, Log: j.log()}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		store, err := Open(ctx, nc, StoreConfig{Subjects: subjects(t), Things: []mapping.Thing{"pump", "quiet"}}, j.log())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		return store
	}
	store := open()
	program, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(program.Close)
	js, err := jetstream.New(program, jetstream.WithPublishAsyncMaxPending(256))
	if err != nil {
		t.Fatal(err)
	}
	// JSON writes each of these as six bytes.
	long := strings.Repeat("<", 600)
	for i := range types {
		if _, err := js.PublishAsync(fmt.Sprint("fleets.up.pump.events.", i, long), fmt.Append(nil, i), jetstream.WithStallWait(patience)); err != nil {
			t.Fatal(err)
		}
	}
	for _, of := range []string{"quiet.events.a", "quiet.events.a", "pump.jobs.get"} {
		if _, err := js.PublishAsync("fleets.up."+of, nil); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}

	check := func() {
		t.Helper()
		queued, err := store.Queued(ctx)
		if err != nil || queued["pump"] != types+1 || queued["quiet"] != 2 {
			t.Errorf("queued: %v, %v", queued, err)
		}
		w, err := NewWaiting(nc, subjects(t))
		if err != nil {
			t.Fatal(err)
		}
		lanes, err := w.Lanes(ctx, "", mapping.Events.String())
		if err != nil || len(lanes) != 2 || lanes[0].Messages != types || lanes[1].Thing != "quiet" || lanes[1].Messages != 2 {
			t.Errorf("%+v, %v", lanes, err)
		}
		if n := nc.Stats().Reconnects; n > 0 || !nc.IsConnected() {
			t.Errorf("the connection was lost %d times", n)
		}
	}
	check()
	store.Close()
	nc.Close()
	store = open()
	check()
	q, _ := store.run(t, "pump", mapping.Events)
	for i := range 3 {
		d := next(t, q)
		if string(d.Payload) != fmt.Sprint(i) {
			t.Errorf("%s comes, want %d", d.Payload, i)
		}
	}
	q, _ = store.run(t, "quiet", mapping.Events)
	next(t, q).Settle()
	next(t, q).Settle()
	inTime(t, "what is settled is removed", 50*time.Millisecond, func() bool {
		held, err := store.lanes.flows[mapping.Telemetry].holding().countEach(ctx, map[queueKey]bool{keyOf("quiet", mapping.Events): true})
		return err == nil && len(held) == 0
	})
}

// infos answers Info with a state, and notes whether somebody wants lists.
type infos struct {
	jetstream.Stream
	state jetstream.StreamState
	lists int
}

func (i *infos) Info(_ context.Context, opts ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	i.lists += len(opts)
	return &jetstream.StreamInfo{State: i.state}, nil
}

// TestManyHoles: one message waits while millions pass. What the server would list of them costs the bridge its connection.
func TestManyHoles(t *testing.T) {
	t.Parallel()
	for holes, lists := range map[int]int{0: 1, streams.MaxHoles: 1, streams.MaxHoles + 1: 0} {
		s := &infos{state: jetstream.StreamState{NumDeleted: holes}}
		_, listed, err := streams.Detailed(testContext(t), s)
		if err != nil || s.lists != lists || listed != (lists > 0) {
			t.Errorf("%d removed: %d lists, %v, %v", holes, s.lists, listed, err)
		}
	}
}
