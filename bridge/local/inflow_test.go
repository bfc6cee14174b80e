package local

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// counted has programs that publish numbered messages for some Things, each until it is acknowledged, and counts what
// arrives.
type counted struct {
	t        *testing.T
	js       jetstream.JetStream
	things   []mapping.Thing
	kinds    []mapping.Kind
	programs int // of each lane
	acked    atomic.Int64
}

func (c *counted) subject(t mapping.Thing, k mapping.Kind) string {
	return subjects(c.t).Kind(t, k)[:len(subjects(c.t).Kind(t, k))-1] + "x"
}

// publish publishes the numbers of one program, from 0 on.
func (c *counted) publish(ctx context.Context, t mapping.Thing, k mapping.Kind, program, n int) {
	for i := range n {
		for {
			inner, cancel := context.WithTimeout(ctx, patience/12)
			_, err := c.js.Publish(inner, c.subject(t, k), fmt.Append(nil, program, " ", i)) // stored twice if only the answer is lost
			cancel()
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				c.t.Errorf("not published: %v", err)
				return
			}
		}
		c.acked.Add(1)
	}
}

// take takes messages of each program, which have to come in order, and settles them until ctx ends. There are n of each;
// done is called when they have come.
func (c *counted) take(ctx context.Context, q bridge.ThingLanes, t mapping.Thing, k mapping.Kind, n int, done func()) {
	next, left := make([]int, c.programs), n*c.programs
	for {
		ds := q.Lane(k).Take(ctx)
		if len(ds) == 0 {
			if left > 0 {
				c.t.Errorf("%s, %s: %d did not come", t, k, left)
				done()
			}
			return
		}
		for _, d := range ds {
			program, i := 0, 0
			if _, err := fmt.Sscan(string(d.Payload), &program, &i); err != nil || i > next[program] || i < next[program]-1 {
				c.t.Errorf("%s, %s: %s comes, want %d", t, k, d.Payload, next[program])
				done()
				return
			}
			if d.Settle(); i < next[program] { // the program had no answer
				continue
			}
			next[program]++
			if left--; left == 0 {
				done()
			}
		}
	}
}

// all does both at once for each lane, and meanwhile something else, which is told when it is over.
func (c *counted) all(ctx context.Context, s *Store, n int, meanwhile func(over <-chan struct{})) {
	c.t.Helper()
	run, stop := context.WithCancel(ctx)
	over := make(chan struct{})
	var work, lanes, other sync.WaitGroup
	for _, t := range c.things {
		q, err := s.TakeOver(ctx, t)
		if err != nil {
			c.t.Fatal(err)
		}
		lanes.Go(func() {
			if err := q.Run(run); err != nil {
				c.t.Error(err)
			}
		})
		for _, k := range c.kinds {
			for p := range c.programs {
				work.Go(func() { c.publish(ctx, t, k, p, n) })
			}
			work.Add(1)
			lanes.Go(func() { c.take(run, q, t, k, n, work.Done) })
		}
	}
	other.Go(func() { meanwhile(over) })
	work.Wait()
	close(over)
	other.Wait()
	inTime(c.t, "the streams are empty", 20*time.Millisecond, func() bool {
		queued, err := s.Queued(ctx)
		left := uint64(0)
		for _, n := range queued {
			left += n
		}
		return err == nil && left == 0
	})
	stop()
	lanes.Wait()
}

// Whatever the leader's word is lost, nothing is, and nothing comes out of order.
func TestInflowIsNotTold(t *testing.T) {
	t.Parallel()
	o := external(t, StoreConfig{Things: []mapping.Thing{"a", "b"}, Window: 40})
	js, err := jetstream.New(o.nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.store.lanes.begin(testContext(t)); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var dropped atomic.Int64
	for class, in := range o.store.lanes.flows {
		if err := in.sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		chance, late := rand.New(rand.NewPCG(seed, uint64(class))), (*nats.Msg)(nil)
		in.sub, err = o.store.nc.Subscribe(in.told(), func(m *nats.Msg) {
			what := chance.IntN(40)
			switch string(m.Data) {
			case "begin":
				what = 3
			case "end":
				what = 0
			}
			switch what {
			case 0: // lost
				dropped.Add(1)
			case 1: // late
				late = m
			case 2:
				if in.come(m); late != nil {
					in.come(late)
				}
			default:
				in.come(m)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	c := &counted{t: t, js: js, things: []mapping.Thing{"a", "b"}, kinds: []mapping.Kind{mapping.Events, mapping.Shadow, mapping.Jobs}, programs: 1}
	c.all(testContext(t), o.store, 100, func(<-chan struct{}) {})
	if dropped.Load() == 0 {
		t.Error("nothing was lost, so nothing was tried")
	}
	q, _ := o.store.run(t, "a", mapping.Events)
	for _, payload := range []string{"begin", "end"} { // nothing comes behind the end, by which it could be missed
		if _, err := o.nc.Request("fleets.up.a.events.x", []byte(payload), patience); err != nil {
			t.Fatal(err)
		}
		expect(t, q, payload)
	}
}

// The leaders of the streams of a cluster step down again and again.
func TestLeadersStepDown(t *testing.T) {
	// alone: three servers that elect leaders while others compute take their time
	const n, steps = 40, 6
	c := newCluster(t)
	for i := range 3 {
		c.start(i)
	}
	j := newJournal(t)
	j.forgive("NATS connection lost", "NATS error", "the store does not work", "cannot store")
	nc, err := nats.Connect(c.url(), wire.ConnOptions("test", j.log())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	store := c.opened(nc, j)
	program, err := nats.Connect(c.url())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(program.Close)
	js, err := jetstream.New(program)
	if err != nil {
		t.Fatal(err)
	}
	load := &counted{t: t, js: js, things: []mapping.Thing{"pump"}, kinds: mapping.Kinds[:], programs: 12}
	stepped := 0
	load.all(testContext(t), store, n, func(over <-chan struct{}) {
		for stepped < steps {
			next := load.acked.Load() + 100
			for load.acked.Load() < next {
				select {
				case <-over:
					return
				case <-time.After(time.Millisecond):
				}
			}
			name := []string{"FLEETS_UP_TELEMETRY", "FLEETS_UP_CONTROL"}[stepped%2]
			if _, err := program.Request("$JS.API.STREAM.LEADER.STEPDOWN."+name, nil, 2*time.Second); err == nil {
				stepped++
			}
		}
	})
	if stepped < steps/2 {
		t.Errorf("%d step-downs", stepped)
	}
}

// Another bridge on the same server ends the one before, which settles nothing any more, and gets what is not settled.
func TestTakenOverByAnotherBridge(t *testing.T) {
	t.Parallel()
	o := external(t, StoreConfig{})
	for i := range 5 {
		if _, err := o.nc.Request("fleets.up.pump.events.x", fmt.Append(nil, i), patience); err != nil {
			t.Fatal(err)
		}
	}
	before, err := o.store.lanes.take(testContext(t), "pump")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- before.Run(t.Context()) }()
	first := next(t, before.feeds[mapping.Events])
	first.Settle()
	if err := before.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	late := next(t, before.feeds[mapping.Events])
	r := &rig{t: t, journal: newJournal(t), subjects: subjects(t)}
	newer := r.open(o.store.nc, StoreConfig{Things: []mapping.Thing{"pump"}})
	q, _ := newer.run(t, "pump", mapping.Events)
	select {
	case err := <-ended:
		if !errors.Is(err, bridge.ErrTakenOver) {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the one before does not end")
	}
	late.Settle()
	again, err := o.store.TakeOver(testContext(t), "pump")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Run(testContext(t)); !errors.Is(err, bridge.ErrTakenOver) {
		t.Errorf("it takes over again: %v", err)
	}
	if _, err := o.nc.Request("fleets.up.pump.events.x", []byte("5"), patience); err != nil {
		t.Fatal(err)
	}
	expect(t, q, "1", "2", "3", "4", "5")
}

// A store of an older version has work queues, with a consumer for each lane. Nothing of what waits is lost, and a bridge of
// that version finds another one's mark.
func TestStreamsOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	url, ctx := plainServer(t, true), testContext(t)
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	old, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "FLEETS_UP_TELEMETRY", Subjects: []string{"fleets.up.pump.events.>", "fleets.up.pump.shadow.>"},
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, MaxConsumers: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"events", "shadow"} {
		c, err := old.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "pump=" + kind, FilterSubject: "fleets.up.pump." + kind + ".>", AckPolicy: jetstream.AckExplicitPolicy,
			Metadata: map[string]string{metaOwner: "somebody", metaThing: "pump"}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 6 {
			if _, err := js.Publish(ctx, "fleets.up.pump."+kind+".x", fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		batch, err := c.Fetch(2)
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			if err := m.DoubleAck(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := &rig{t: t, journal: newJournal(t), subjects: subjects(t)}
	store := r.open(nc, StoreConfig{Things: []mapping.Thing{"pump"}})
	q, _ := store.run(t, "pump", mapping.Events)
	if _, err := nc.Request("fleets.up.pump.events.x", []byte("6"), patience); err != nil {
		t.Fatal(err)
	}
	expect(t, q, "2", "3", "4", "5", "6")
	expect(t, q.lanes.feeds[mapping.Shadow], "2", "3", "4", "5")
	if err := q.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	info, err := old.Info(ctx)
	if err != nil || info.State.Msgs != 0 || info.State.Consumers != 1 {
		t.Fatalf("%+v %v", info, err)
	}
	names := old.ConsumerNames(ctx)
	for name := range names.Name() {
		c, err := old.Consumer(ctx, name)
		if err != nil || c.CachedInfo().Config.Metadata[metaOwner] == "somebody" {
			t.Errorf("%s is still the older one's, %v", name, err)
		}
	}
}

// There is no consumer, of which a server has at most a thousand for a stream; and with many Things the streams do not list
// their subjects.
func TestManyThingsOnAnExternalServer(t *testing.T) {
	t.Parallel()
	const n = maxListed + 100
	var things []mapping.Thing
	for i := range n {
		things = append(things, mapping.Thing(fmt.Sprint("t", i)))
	}
	o := external(t, StoreConfig{Things: things})
	js, err := jetstream.New(o.nc)
	if err != nil {
		t.Fatal(err)
	}
	publish := func(payload string) {
		t.Helper()
		for _, thing := range things {
			if _, err := js.PublishAsync("fleets.up."+string(thing)+".events.x", []byte(payload)); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-js.PublishAsyncComplete():
		case <-time.After(patience):
			t.Fatal("not published")
		}
	}
	publish("1")
	var all []*taking
	for _, thing := range things {
		q, _ := o.store.run(t, thing, mapping.Events)
		all = append(all, q)
	}
	publish("2")
	for _, q := range all {
		expect(t, q, "1", "2")
	}
	up, err := js.Stream(testContext(t), "FLEETS_UP_TELEMETRY")
	if err != nil || up.CachedInfo().State.Consumers != 0 || len(up.CachedInfo().Config.Subjects) > 10 {
		t.Errorf("%+v %v", up.CachedInfo(), err)
	}
}
