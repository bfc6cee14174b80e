package soak

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// stopAgain stops the bridge with SIGTERM under load, and starts it again. It takes less than 10 s,
// loses nothing, and repeats nothing: what is in flight is finished first.
func stopAgain(w *World) {
	times := w.Pick(2, 8)
	// A broker that writes everything to its disk answers late by itself, and nobody could tell why.
	s := newProcSite(w, procOptions{fast: true, patience: time.Minute + time.Duration(times)*15*time.Second})
	s.bridge.start(s.ctx)
	s.bridge.ready(s.ctx)
	s.begin(time.Millisecond)
	before := 0
	for range times {
		s.nap(w.Between(200*time.Millisecond, 500*time.Millisecond))
		if n := s.sentAgain(); n > before {
			w.Logf("%d sent again since the last stop", n-before)
			before = n
		}
		s.flood()
		took := s.bridge.stop()
		w.Fault()
		if took >= 10*time.Second {
			w.Errorf("stopping took %v", took)
		}
		s.bridge.launch()
		w.Recovered(s.bridge.ready(s.ctx))
		w.Logf("stopped in %v", took.Round(time.Millisecond))
	}
	s.nap(200 * time.Millisecond)
	s.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	for lane, n := range s.repeated {
		w.Errorf("%s: %d were sent again by the bridge after a stop in order", lane, n)
	}
	s.expectOnly(0, "packet identifier in use")
	for _, lane := range s.Ledger.Report().Lanes {
		if lane.In < leastLoad*times {
			w.Errorf("%s had %d messages in %d stops: that is no load", lane.Lane, lane.In, times)
		}
	}
}

// leastLoad is how many messages a lane must have between two stops for the scenario to mean anything.
const leastLoad = 20

// burst is more than a Thing's inbox holds, which is twice the Receive Maximum of 1024.
const burst = 3000

// flood has the cloud send a burst without numbers, and returns when a third of it is out: at the stop
// there is something that nobody takes any more, with acknowledgements behind it.
func (s *procSite) flood() {
	if !s.realBroker() {
		return
	}
	var part sync.WaitGroup
	for _, thing := range s.things {
		for range 4 {
			part.Add(1)
			s.load.Go(func() {
				for i := range burst / 4 {
					if i == burst/12 {
						part.Done()
					}
					_ = s.sim.Publish("$emqx/things/"+thing+"/jobs/notify-next", []byte("{}"), fleetsim.PublishOptions{})
				}
			})
		}
	}
	part.Wait()
}

// sentAgain counts what has arrived more than once although its program handed it in once.
func (s *procSite) sentAgain() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := 0
	for _, n := range s.repeated {
		all += n
	}
	return all
}

// startUnderFire has programs that publish from before the bridge starts: whoever gets a PubAck is
// kept, from the first on, and the first services answer.
func startUnderFire(w *World) {
	for range w.Pick(2, 20) {
		s := newProcSite(w, procOptions{silent: true}) // it has no session yet
		s.link.Cut()                                   // the cloud comes later
		s.begin(time.Millisecond)
		s.nap(w.Between(0, 200*time.Millisecond))
		s.bridge.start(s.ctx)
		w.Fault()
		s.nap(200 * time.Millisecond)
		s.link.Restore()
		w.Recovered(s.bridge.ready(s.ctx))
		s.endLoad()
		s.arrivedUp()
		s.mu.Lock()
		if s.unheard > 0 {
			w.Errorf("%d publishes found no stream: programs could connect too early", s.unheard)
		}
		s.mu.Unlock()
		s.bridge.stop()
	}
}

// backlog queues messages while the broker is away, and restarts the bridge: how long until it is ready,
// how fast the queue drains, and how much memory that takes more than an empty queue.
func backlog(w *World) {
	size := w.Pick(10_000, 100_000)
	s := newProcSite(w, procOptions{fast: true, patience: 5 * time.Minute, setup: processSetup{things: []string{"pump-07"}, sync: "1s"}})
	s.bridge.start(s.ctx)
	s.bridge.ready(s.ctx)
	empty := s.bridge.memory()
	s.link.Cut()
	js, err := jetstream.New(s.connect("program"), jetstream.WithPublishAsyncMaxPending(2000))
	if err != nil {
		w.Fatal(err)
	}
	name := upLane("pump-07", mapping.Events)
	began := time.Now()
	var answers []jetstream.PubAckFuture
	for range size {
		f, err := js.PublishMsgAsync(numbered("pump-07", mapping.Events, s.Ledger.Next(name)), jetstream.WithStallWait(30*time.Second))
		if err != nil {
			w.Fatal(err)
		}
		answers = append(answers, f)
	}
	for i, f := range answers {
		select {
		case <-f.Ok():
			s.accepted(name, uint64(i+1))
		case err := <-f.Err():
			w.Fatal(err)
		case <-s.ctx.Done():
			w.Fatal("no PubAck in time")
		}
	}
	stored := time.Since(began)
	stopped := s.bridge.stop()
	up := s.bridge.start(s.ctx)
	s.link.Restore()
	drain := time.Now()
	w.Recovered(s.bridge.ready(s.ctx))
	w.Fault()
	if err := s.Ledger.Settled(s.ctx); err != nil {
		w.Error(err)
	}
	took, full := time.Since(drain), s.bridge.memory()
	w.Logf("%d messages: stored in %v, stopped in %v, programs can connect after %v, drained in %v (%.0f/s); peak memory %d MiB, with an empty queue %d MiB",
		size, stored.Round(time.Millisecond), stopped.Round(time.Millisecond), up.Round(time.Millisecond), took.Round(time.Millisecond),
		float64(size)/took.Seconds(), full>>20, empty>>20)
	if more := full - empty; more > backlogMemory {
		w.Errorf("the queue takes %d MiB of memory", more>>20)
	}
}

// backlogMemory is what a queue of any length may take: the server's cache of a few blocks of messages,
// and the window.
const backlogMemory = 128 << 20
