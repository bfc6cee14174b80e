package soak

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"

	"fleetbridge/fleetsim"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// procSite is a cloud with its broker, the bridge in a process, programs that publish and serve, and the
// ledger that hears of everything.
type procSite struct {
	*World
	ctx    context.Context // of the whole scenario
	sim    *fleetsim.Sim
	link   *fleetsim.Link
	bridge *process
	things []string
	silent bool // the cloud sends nothing
	real   bool // the broker is a real one
	kinds  []mapping.Kind
	ttl    time.Duration // of commands; 0: none

	load     sync.WaitGroup
	stopLoad context.CancelFunc

	books *fleetsim.Ledger // the world's, unless a scenario expects losses

	mu       sync.Mutex
	journal  map[string]map[uint64]time.Time // if set: when was accepted what, by lane and number
	seen     map[string]map[uint64]bool      // and what has arrived
	newest   map[string]uint64               // the highest of it
	came     map[string]time.Time            // when something last arrived
	silence  time.Duration                   // the longest between two arrivals in a lane
	longest  string                          // which lane that was, and until when
	commands []string                        // execution ids
	runs     map[string]int
	again    int                        // of all runs those beyond the first of a command
	last     map[string]uint64          // by lane: the highest number accepted
	refused  int                        // publishes that got an error
	unheard  int                        // publishes that found no stream
	unsure   map[string]map[uint64]bool // by lane: the numbers that were handed in more than once
	repeated map[string]int             // by lane: arrivals beyond the first of the others
}

// procOptions change a site; the zero value has two Things.
type procOptions struct {
	setup    processSetup
	silent   bool          // the cloud sends nothing
	fast     bool          // the broker keeps nothing on disk
	real     bool          // the broker is a real one, whatever the flag says
	patience time.Duration // of the whole scenario; 0: a minute
}

func newProcSite(w *World, o procOptions) *procSite {
	t := w.T
	t.Helper()
	s := newProcCloud(w, o)
	link, err := fleetsim.NewLink(s.sim.BrokerURL())
	if err != nil {
		t.Fatalf("%v", err)
	}
	s.link = link
	o.setup.broker, o.setup.things = link.URL(), s.things
	s.bridge = newProcess(t, o.setup)
	t.Cleanup(func() {
		s.endLoad()
		s.bridge.kill()
		_ = link.Close()
	})
	s.tap()
	return s
}

// newProcCloud is a site without a bridge.
func newProcCloud(w *World, o procOptions) *procSite {
	w.Helper()
	if o.patience == 0 {
		o.patience = time.Minute
	}
	ctx, cancel := context.WithTimeout(w.T.Context(), o.patience)
	w.Cleanup(cancel)
	s := &procSite{
		World: w, ctx: ctx, books: w.Ledger, silent: o.silent, real: o.real || *brokerFlag == realBroker, kinds: procKinds[:], runs: map[string]int{}, last: map[string]uint64{},
		seen: map[string]map[uint64]bool{}, newest: map[string]uint64{}, came: map[string]time.Time{}, unsure: map[string]map[uint64]bool{}, repeated: map[string]int{},
	}
	s.things = o.setup.things
	if len(s.things) == 0 {
		s.things = []string{"pump-07", "valve-3"}
	}
	sim := fleetsim.Options{Things: s.things, Keep: 2_000_000}
	if s.real {
		sim.Broker = w.mosquitto(fleetsim.MosquittoOptions{Persistence: !o.fast}).URL()
	}
	s.sim = fleetsim.Start(w, sim)
	return s
}

// brokerFlag chooses between the simulator's own broker and a real one.
var brokerFlag = flag.String("broker", "sim", "the MQTT broker: sim, the simulator's own, or mosquitto, which has to be installed")

const realBroker = "mosquitto"

// tap tells the ledger what reaches the cloud, as it does.
func (s *procSite) tap() {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		_, _ = s.sim.WaitPublish(ctx, func(p fleetsim.Publish) bool {
			a, err := mapping.ParseTopic(mapping.Up, p.Topic)
			if err != nil {
				return false
			}
			switch a.Channel {
			case mapping.Event:
				s.arrived(upLane(string(a.Thing), mapping.Events), gjson.GetBytes(p.Payload, "data.n").Uint())
			case mapping.JobUpdate:
				s.arrived(upLane(string(a.Thing), mapping.Jobs), gjson.GetBytes(p.Payload, "statusDetails.n").Uint())
			case mapping.ShadowReport:
				s.arrived(upLane(string(a.Thing), mapping.Shadow), gjson.GetBytes(p.Payload, "state.reported.n").Uint())
			}
			return false
		})
	})
	s.Cleanup(func() { cancel(); work.Wait() })
}

// connect is a program's connection; it finds its way back to the bridge by itself.
func (s *procSite) connect(name string) *nats.Conn {
	s.Helper()
	nc, err := nats.Connect(s.bridge.nats, nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.RetryOnFailedConnect(true), nats.ReconnectBufSize(-1), nats.Timeout(time.Second),
		nats.PingInterval(2*time.Second), nats.MaxPingsOutstanding(5))
	if err != nil {
		s.Fatalf("%v", err)
	}
	s.Cleanup(nc.Close)
	return nc
}

// upSubject is an up subject of a Thing.
func upSubject(thing, tail string) string { return "fleets.up." + mapping.Token(thing) + "." + tail }

// numbered makes message n of a Thing and kind.
func numbered(thing string, kind mapping.Kind, n uint64) *nats.Msg {
	if kind == mapping.Jobs {
		m := nats.NewMsg(upSubject(thing, "jobs.j.update"))
		m.Data = fmt.Appendf(nil, `{"status":"IN_PROGRESS","statusDetails":{"n":"%d"}}`, n)
		return m
	}
	if kind == mapping.Shadow { // all that was reported is to be in the merged state
		m := nats.NewMsg(upSubject(thing, "shadow.update"))
		m.Data = fmt.Appendf(nil, `{"state":{"reported":{"n":%d,"k%d":%d}}}`, n, n%reportKeys, n)
		return m
	}
	m := nats.NewMsg(upSubject(thing, "events.n"))
	m.Data = fmt.Appendf(nil, `{"eventType":"n","severity":"info","data":{"n":%d},"timestamp":%d}`, n, 1780000000000+n)
	return m
}

// reportKeys is how many keys reports have in turn.
const reportKeys = 8

// procKinds are the kinds of what these programs publish.
var procKinds = [...]mapping.Kind{mapping.Jobs, mapping.Events}

// accepted notes a message that somebody has taken charge of.
func (s *procSite) accepted(lane string, n uint64) {
	s.books.Accepted(lane, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[lane] = max(s.last[lane], n)
	if s.journal != nil {
		if s.journal[lane] == nil {
			s.journal[lane] = map[uint64]time.Time{}
		}
		s.journal[lane][n] = time.Now()
	}
}

// arrived notes a message that has reached the cloud.
func (s *procSite) arrived(lane string, n uint64) {
	s.books.Arrived(lane, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[lane] == nil {
		s.seen[lane] = map[uint64]bool{}
	}
	if s.seen[lane][n] && !s.unsure[lane][n] {
		s.repeated[lane]++
	}
	s.seen[lane][n] = true
	s.newest[lane] = max(s.newest[lane], n)
	if was := s.came[lane]; !was.IsZero() && time.Since(was) > s.silence {
		s.silence, s.longest = time.Since(was), lane+" until "+time.Now().Format("15:04:05.000")
	}
	s.came[lane] = time.Now()
}

// arrivedUp waits for the last message of each lane; what came before it has arrived, or is lost.
func (s *procSite) arrivedUp() {
	s.Helper()
	s.untilEachLane("the last one did not arrive", func(name string) bool {
		last := s.last[name]
		return last == 0 || s.seen[name][last]
	})
}

// untilEachLane waits until a condition holds for every lane upwards. It is called with the lock held.
func (s *procSite) untilEachLane(complaint string, holds func(name string) bool) {
	s.Helper()
	for _, thing := range s.things {
		for _, kind := range s.kinds {
			name := upLane(thing, kind)
			for {
				s.mu.Lock()
				done, last := holds(name), s.last[name]
				s.mu.Unlock()
				if done {
					break
				}
				if flow.Sleep(s.ctx, 10*time.Millisecond) != nil {
					s.Fatalf("%s: %s; number %d was accepted last\n%s", name, complaint, last, s.bridge.tail())
				}
			}
		}
	}
}

// begin starts the load: for each Thing a program that publishes events and updates of a job, one that serves
// commands, and the cloud that sends notifications and commands. every is the pause between two
// messages of a lane.
func (s *procSite) begin(every time.Duration) {
	s.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	s.stopLoad = cancel
	for _, thing := range s.things {
		nc := s.connect("program of " + thing)
		js, err := jetstream.New(nc)
		if err != nil {
			s.Fatalf("%v", err)
		}
		s.serve(nc, thing)
		for _, kind := range s.kinds {
			s.load.Go(func() { s.publish(ctx, js, thing, kind, every) })
		}
		if s.realBroker() && !s.silent {
			s.load.Go(func() { s.send(ctx, thing, every) })
		}
	}
}

// endLoad stops the load and returns when every publisher knows what became of its last message.
func (s *procSite) endLoad() {
	if s.stopLoad != nil {
		s.stopLoad()
		s.load.Wait()
	}
}

// publish hands message after message in. One that was refused or not answered is handed in again, with
// the same id, until it is accepted.
func (s *procSite) publish(ctx context.Context, js jetstream.JetStream, thing string, kind mapping.Kind, every time.Duration) {
	name := upLane(thing, kind)
	for flow.Sleep(ctx, every) == nil {
		n := s.books.Next(name)
		m := numbered(thing, kind, n)
		for ctx.Err() == nil {
			one, cancel := context.WithTimeout(s.ctx, 500*time.Millisecond) // goes on when the load ends
			_, err := js.PublishMsg(one, m, jetstream.WithMsgID(fmt.Sprintf("%s-%d", name, n)), jetstream.WithRetryAttempts(0))
			cancel()
			if err == nil {
				s.accepted(name, n)
				break
			}
			s.mu.Lock()
			s.refused++
			if errors.Is(err, jetstream.ErrNoStreamResponse) {
				s.unheard++
			}
			if s.unsure[name] == nil {
				s.unsure[name] = map[uint64]bool{}
			}
			s.unsure[name][n] = true
			s.mu.Unlock()
			_ = flow.Sleep(ctx, 5*time.Millisecond)
		}
	}
}

// send is the cloud: numbered notifications, and a command for every tenth of them.
func (s *procSite) send(ctx context.Context, thing string, every time.Duration) {
	name := downLane(thing)
	for i := 1; flow.Sleep(ctx, every) == nil; i++ {
		n := s.books.Next(name)
		topic := "$emqx/things/" + thing + "/jobs/notify"
		if err := s.sim.Publish(topic, fmt.Appendf(nil, `{"jobs":{},"timestamp":%d}`, n), fleetsim.PublishOptions{}); err != nil {
			continue // number n is never accepted
		}
		s.accepted(name, n)
		if i%10 != 0 {
			continue
		}
		id, err := s.sim.SendCommand(fleetsim.Command{Thing: thing, Action: "work", TTL: s.ttl})
		if err != nil {
			s.Errorf("command: %v", err)
			continue
		}
		s.mu.Lock()
		s.commands = append(s.commands, id)
		s.mu.Unlock()
	}
}

// serve runs commands. Each run has a number of its own, so that two responses of one execution differ.
func (s *procSite) serve(nc *nats.Conn, thing string) {
	s.Helper()
	run := 0
	_, err := nc.QueueSubscribe("fleets.cmd."+mapping.Token(thing)+".work", "workers", func(m *nats.Msg) {
		run++
		s.mu.Lock()
		s.runs[m.Header.Get("Fleets-Execution")]++
		s.mu.Unlock()
		_ = m.Respond(fmt.Appendf(nil, `{"status":"SUCCEEDED","result":{"run":%d}}`, run)) // if it asked and was killed, it asks again
	})
	if err != nil {
		s.Fatalf("%v", err)
	}
}

// finish waits until everything accepted has arrived and every execution has its one response.
func (s *procSite) finish() {
	s.Helper()
	s.endLoad()
	s.arrivedDown()
	if err := s.books.Settled(s.ctx); err != nil {
		s.Errorf("%v", err)
	}
	s.checkCommands(fleetsim.Succeeded)
	s.Logf("publishes refused %d; %+v", s.refused, s.books.Report().Total)
}

// arrivedDown waits for the last message of each Thing in FLEETS_DOWN and then tells the ledger what
// that stream holds.
func (s *procSite) arrivedDown() {
	s.Helper()
	js, err := jetstream.New(s.connect("auditor"))
	if err != nil {
		s.Fatalf("%v", err)
	}
	for _, thing := range s.things {
		s.mu.Lock()
		want := s.last[downLane(thing)]
		s.mu.Unlock()
		for want > 0 {
			m, err := s.lastDown(js, "fleets.down."+mapping.Token(thing)+".jobs.notify")
			if err == nil && gjson.GetBytes(m.Data, "timestamp").Uint() >= want {
				break
			}
			if flow.Sleep(s.ctx, 20*time.Millisecond) != nil {
				s.Errorf("down/%s: number %d did not arrive: %v\n%s", thing, want, err, s.bridge.tail())
				break
			}
		}
	}
	s.readDown(js)
}

func (s *procSite) lastDown(js jetstream.JetStream, subject string) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(s.ctx, time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, "FLEETS_DOWN")
	if err != nil {
		return nil, err
	}
	return stream.GetLastMsgForSubject(ctx, subject)
}

// readDown tells the ledger of every notification in the stream, in its order.
func (s *procSite) readDown(js jetstream.JetStream) {
	s.Helper()
	things := map[string]string{}
	for _, thing := range s.things {
		things["fleets.down."+mapping.Token(thing)+".jobs.notify"] = thing
	}
	c, err := js.OrderedConsumer(s.ctx, "FLEETS_DOWN", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"fleets.down.*.jobs.notify"}})
	if err != nil {
		s.Errorf("FLEETS_DOWN: %v", err)
		return
	}
	info, err := c.Info(s.ctx)
	if err != nil || info.NumPending == 0 {
		return
	}
	it, err := c.Messages()
	if err != nil {
		s.Errorf("FLEETS_DOWN: %v", err)
		return
	}
	defer it.Stop()
	for range info.NumPending {
		m, err := it.Next(jetstream.NextContext(s.ctx))
		if err != nil {
			s.Errorf("FLEETS_DOWN: %v", err)
			return
		}
		s.books.Arrived(downLane(things[m.Subject()]), gjson.GetBytes(m.Data(), "timestamp").Uint())
	}
}

// checkCommands waits until every execution has its response, one of those statuses, and looks for a second one.
func (s *procSite) checkCommands(statuses ...string) {
	s.Helper()
	s.mu.Lock()
	commands := s.commands
	s.mu.Unlock()
	again, copies, unheard, ends := 0, 0, 0, map[string]int{}
	for _, id := range commands {
		ctx, cancel := context.WithTimeout(s.ctx, s.ttl+20*time.Second)
		c, err := s.sim.WaitCommand(ctx, id)
		for err == nil && len(c.Responses) == 0 && flow.Sleep(ctx, 20*time.Millisecond) == nil { // the cloud ends it before the bridge does
			c, err = s.sim.Command(id)
		}
		cancel()
		if err != nil {
			s.Errorf("execution %s got no response: %v; %s", id, err, s.traces(id))
			continue
		}
		different := map[string]bool{}
		for _, r := range c.Responses {
			different[string(r)] = true
		}
		ends[c.Status]++
		if len(different) != 1 || !slices.Contains(statuses, c.Status) {
			s.Errorf("execution %s is %s with the responses %s; %s", id, c.Status, c.Responses, s.traces(id))
		}
		if c.Status == fleetsim.TimedOut && s.ran(id) > 0 {
			unheard++
		}
		copies += max(len(c.Responses)-1, 0)
		again += max(s.ran(id)-1, 0)
	}
	s.again = again
	s.Logf("commands %d: %v, handlers run again %d, responses sent again %d, replies that were not heard %d", len(commands), ends, again, copies, unheard)
}

// ran is how often the handler was called for an execution.
func (s *procSite) ran(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[id]
}

// traces is what the bridge's store knows of an execution.
func (s *procSite) traces(id string) string {
	nc := s.connect("tracer")
	js, err := jetstream.New(nc)
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out := fmt.Sprintf("handler ran %d times", s.ran(id))
	for _, name := range []string{"FLEETS_DOWN", "FLEETS_DEAD"} {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return out + ", " + err.Error()
		}
		for _, filter := range []string{"fleets.*.*.commands." + id + ".*", "fleets.dead.*.*.commands." + id + ".*"} {
			info, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
			if err != nil {
				return out + ", " + err.Error()
			}
			for subject := range info.State.Subjects {
				m, err := stream.GetLastMsgForSubject(ctx, subject)
				if err != nil {
					out += fmt.Sprintf("; %s %v", subject, err)
					continue
				}
				out += fmt.Sprintf("; %s number %d at %v: %.200s", subject, m.Sequence, m.Time.Format("05.000"), m.Data)
			}
		}
	}
	return out
}

// expectOnly fails on lines at WARN and above that contain none of the texts.
func (s *procSite) expectOnly(from int, expected ...string) {
	s.Helper()
next:
	for _, l := range s.bridge.log(from, "WARN", "ERROR") {
		for _, e := range expected {
			if strings.Contains(l.Text, e) {
				continue next
			}
		}
		s.Errorf("unexpected: %s", l.Text)
	}
}

// realBroker tells that the cloud can send while the bridge is killed: the simulator's own broker loses
// messages while a session moves from one connection to the next.
func (s *procSite) realBroker() bool { return s.real }

// nap lets the load flow.
func (s *procSite) nap(d time.Duration) {
	if flow.Sleep(s.ctx, d) != nil {
		s.Fatalf("the scenario takes too long:\n%s", s.bridge.tail())
	}
}
