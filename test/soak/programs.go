package soak

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/mapping"
)

// arrivals remembers how far each lane has come.
type arrivals struct {
	signal
	highest map[string]uint64
	dead    []letter
}

// letter is a message that shall die, or has.
type letter struct {
	lane string
	n    uint64
}

// mustDie says which message shall become a dead letter; any other that does fails the scenario.
func (s *Site) mustDie(lane string, n uint64) {
	s.MayDie()
	s.doomed = letter{lane, n}
	s.Check(func() {
		s.arrivals.Lock()
		defer s.arrivals.Unlock()
		if !slices.Equal(s.arrivals.dead, []letter{s.doomed}) {
			s.Errorf("dead letters %v, want %v alone", s.arrivals.dead, s.doomed)
		}
	})
}

// died waits until the doomed message is a dead letter.
func (s *Site) died() {
	s.Helper()
	began := time.Now()
	if err := s.arrivals.wait(s.Context(), func() bool { return len(s.arrivals.dead) > 0 }); err != nil {
		s.Fatalf("no dead letter after %v: status %s", time.Since(began).Round(time.Second), s.Status())
	}
	s.Logf("%v is a dead letter after %v and %d connections", s.doomed, time.Since(began).Round(time.Millisecond), s.Link.Accepted())
}

// sent is the highest number that was handed in.
func (s *Site) sent(lane string) uint64 {
	s.load.mu.Lock()
	defer s.load.mu.Unlock()
	return s.load.sent[lane]
}

func (a *arrivals) note(lane string, n uint64) {
	a.Lock()
	defer a.Unlock()
	a.highest[lane] = max(a.highest[lane], n)
	a.notify()
}

// bury notes a dead letter.
func (a *arrivals) bury(lane string, n uint64) {
	a.Lock()
	defer a.Unlock()
	a.dead = append(a.dead, letter{lane, n})
	a.notify()
}

func (a *arrivals) last(lane string) uint64 {
	a.Lock()
	defer a.Unlock()
	return a.highest[lane]
}

// Load is how much flows, in messages a second and Thing; 0: none.
type Load struct {
	Events, Reports, Responses, Jobs int
	Down, Deltas                     int
	Commands                         bool // one after the other, each run and answered by a program
	Poison                           int  // every so many-th event and notification is no JSON; 0: none
	// Size, if not nil, is how many bytes the payload of an event, a response or a notification has; 0: few.
	Size func(lane string, n uint64) int
}

// Usual is a load that a slow machine has no trouble with.
var Usual = Load{Events: 260, Reports: 40, Responses: 50, Jobs: 10, Down: 100, Deltas: 40, Commands: true}

// lanes are those that have something to carry, with how much.
func (l Load) lanes(thing string) map[string]int {
	all := map[string]int{downLane(thing): l.Down, deltaLane(thing): l.Deltas}
	for kind, rate := range l.up() {
		all[upLane(thing, kind)] = rate
	}
	if l.Commands {
		all[commandLane(thing)] = 1
	}
	maps.DeleteFunc(all, func(_ string, rate int) bool { return rate == 0 })
	return all
}

func (l Load) up() map[mapping.Kind]int {
	return map[mapping.Kind]int{mapping.Events: l.Events, mapping.Shadow: l.Reports, mapping.Commands: l.Responses, mapping.Jobs: l.Jobs}
}

// payload brings a payload to the size that its message shall have.
func (l Load) payload(lane string, n uint64, payload []byte) []byte {
	if l.Size == nil {
		return payload
	}
	before, after, found := bytes.Cut(payload, fmt.Appendf(nil, `"n":%d`, n))
	more := l.Size(lane, n) - len(payload) - len(`,"pad":""`)
	if !found || more <= 0 {
		return payload
	}
	return fmt.Appendf(nil, `%s"n":%d,"pad":"%s"%s`, before, n, strings.Repeat("x", more), after)
}

// load is what makes a Load.
type load struct {
	stop chan struct{}
	all  sync.WaitGroup

	mu   sync.Mutex
	sent map[string]uint64 // the highest number handed in
	runs map[string]int    // of commands, by execution

	responses map[string]map[string]bool // what the cloud was answered, by execution
}

// Load lets messages flow until the end of the scenario, or until StopLoad.
func (s *Site) Load(l Load) {
	if s.o.Forgetful {
		l.Down, l.Deltas, l.Commands = 0, 0, false
	}
	if s.o.API {
		l.Deltas = 0 // the API would say that it knows of no such version
	}
	s.load = &load{stop: make(chan struct{}), sent: map[string]uint64{}, runs: map[string]int{}, responses: map[string]map[string]bool{}}
	if l.Commands {
		s.serveCommands()
	}
	for _, t := range s.Config.Things {
		for kind, rate := range l.up() {
			lane := upLane(t.Name, kind)
			s.flow(lane, rate, func(n uint64) error {
				subject, payload := upward(t.Name, kind, n)
				if kind == mapping.Events && l.Poison > 0 && n%uint64(l.Poison) == 0 {
					payload = noJSON(n)
				}
				return s.publish(subject, l.payload(lane, n, payload))
			})
		}
		lane := downLane(t.Name)
		s.flow(lane, l.Down, func(n uint64) error {
			topic, payload := notification(t.Name, n, l.Poison)
			return s.Cloud.Publish(s.Context(), topic, l.payload(lane, n, payload))
		})
		s.flow(deltaLane(t.Name), l.Deltas, func(n uint64) error {
			return s.Cloud.Publish(s.Context(), "$emqx/things/"+t.Name+"/shadow/update/delta", fmt.Appendf(nil, `{"version":%d,"state":{"n":%d}}`, n, n))
		})
		if l.Commands {
			s.load.all.Go(func() { s.command(t.Name) })
		}
	}
	s.AtEnd(s.StopLoad)
	s.Check(s.nothingTwice)
	if !s.o.Cut {
		s.flowing(l)
	}
}

// flowing waits until something has come through every lane, so that a fault hits what flows.
func (s *Site) flowing(l Load) {
	s.Helper()
	var lanes []string
	for _, t := range s.Config.Things {
		lanes = slices.AppendSeq(lanes, maps.Keys(l.lanes(t.Name)))
	}
	err := s.arrivals.wait(s.Context(), func() bool {
		return !slices.ContainsFunc(lanes, func(lane string) bool { return s.arrivals.highest[lane] == 0 })
	})
	if err != nil {
		s.Fatalf("nothing flows: status %s", s.Status())
	}
}

// StopLoad ends the load and waits for what is being handed in.
func (s *Site) StopLoad() {
	select {
	case <-s.load.stop:
		return
	default:
	}
	close(s.load.stop)
	s.load.all.Wait()
}

// nothingTwice looks for what the bridge should have recognised as a redelivery.
func (s *Site) nothingTwice() {
	for _, t := range s.Ledger.Report().Lanes {
		if strings.HasPrefix(t.Lane, "delta/") && t.Duplicated > 0 {
			s.Errorf("%s: %d versions came twice", t.Lane, t.Duplicated)
		}
	}
	s.load.mu.Lock()
	defer s.load.mu.Unlock()
	for id, n := range s.load.runs {
		if n > 1 {
			s.Errorf("command %s was run %d times", id, n)
		}
	}
	for id, different := range s.load.responses {
		if len(different) > 1 {
			s.Errorf("command %s has %d responses", id, len(different))
		}
	}
}

// answered notes a command's response.
func (l *load) answered(id string, payload []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.responses[id] == nil {
		l.responses[id] = map[string]bool{}
	}
	l.responses[id][string(payload)] = true
}

// flow hands in messages of a lane, numbered, at a steady rate; after a pause it does not catch up.
func (s *Site) flow(lane string, perSecond int, send func(n uint64) error) {
	if perSecond == 0 {
		return
	}
	s.load.all.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for {
			select {
			case <-s.load.stop:
				return
			case <-s.Context().Done():
				return
			case <-tick.C:
			}
			n := s.Ledger.Next(lane)
			if send(n) == nil {
				s.Ledger.Accepted(lane, n)
				s.load.note(lane, n)
			}
		}
	})
}

func (l *load) note(lane string, n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[lane] = n
}

// publish stores a message as a program does that wants to know. When the connection is lost meanwhile,
// or the server answers no more, nobody knows whether it is stored.
func (s *Site) publish(subject string, payload []byte) error {
	ctx, cancel := context.WithTimeout(s.Context(), 5*time.Second)
	defer cancel()
	lost := s.nc.StatusChanged(nats.RECONNECTING)
	defer s.nc.RemoveStatusListener(lost)
	go func() {
		select {
		case <-lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	_, err := s.js.Publish(ctx, subject, payload)
	return err
}

// upward is message n of a kind.
func upward(thing string, k mapping.Kind, n uint64) (subject string, payload []byte) {
	subject = "fleets.up." + thing + "."
	switch k {
	case mapping.Commands:
		return fmt.Sprintf("%scommands.%s%d.response", subject, looseResponse, n), fmt.Appendf(nil, `{"status":"SUCCEEDED","result":{"n":%d}}`, n)
	case mapping.Jobs:
		return fmt.Sprintf("%sjobs.%s%d.update", subject, job, n), []byte(`{"status":"IN_PROGRESS"}`)
	case mapping.Shadow:
		return subject + "shadow.update", fmt.Appendf(nil, `{"state":{"reported":{"n":%d}}}`, n)
	default:
		return subject + "events.n", fmt.Appendf(nil, `{"eventType":"n","severity":"info","data":{"n":%d}}`, n)
	}
}

func noJSON(n uint64) []byte { return fmt.Appendf(nil, `{"n":%d,"poison":`, n) }

func notification(thing string, n uint64, poison int) (topic string, payload []byte) {
	topic = "$emqx/things/" + thing + "/jobs/notify"
	if poison > 0 && n%uint64(poison) == 0 {
		return topic, noJSON(n)
	}
	return topic, fmt.Appendf(nil, `{"n":%d,"jobs":{}}`, n)
}

// serveCommands is the program that runs commands.
func (s *Site) serveCommands() {
	l := s.load
	sub, err := s.nc.Subscribe("fleets.cmd.*.run", func(m *nats.Msg) {
		id := m.Subject + " " + m.Header.Get("Fleets-Execution")
		l.mu.Lock()
		l.runs[id]++
		second := len(l.runs)%4 == 0
		l.mu.Unlock()
		if second { // another program answers it, too: one of the two goes
			thing := strings.Split(m.Subject, ".")[2]
			_ = s.publish("fleets.up."+thing+".commands."+m.Header.Get("Fleets-Execution")+".response", []byte(`{"status":"SUCCEEDED","result":{"by":"another"}}`))
		}
		_ = m.Respond([]byte(`{"status":"SUCCEEDED","result":{"by":"the handler"}}`))
	})
	s.check(err)
	s.check(s.nc.Flush())
	s.Cleanup(func() { _ = sub.Unsubscribe() })
}

// command sends one command after the other, the next when the last is answered.
func (s *Site) command(thing string) {
	lane := commandLane(thing)
	ttl := 120
	if s.o.NATS { // a reply that goes down with the connection is not asked for again: TIMED_OUT at the end
		ttl = 5
	}
	for {
		select {
		case <-s.load.stop:
			return
		case <-s.Context().Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
		n := s.Ledger.Next(lane)
		topic := fmt.Sprintf("$emqx/commands/things/%s/executions/%s%d/request", thing, realCommand, n)
		if s.Cloud.Publish(s.Context(), topic, fmt.Appendf(nil, `{"action":"run","params":{},"timestamp":%d,"ttl":%d}`, time.Now().Unix(), ttl)) != nil {
			continue
		}
		s.Ledger.Accepted(lane, n)
		if err := s.arrivals.wait(s.Context(), func() bool { return s.arrivals.highest[lane] >= n }); err != nil {
			return // the ledger shows it
		}
	}
}

// recoveryTime is the longest pause of a bridge whose session was taken over, 45 s, and time to catch up on
// a machine that has much else to do.
const recoveryTime = 90 * time.Second

// Recovered waits until, in every lane, all that was accepted up to now and something newer has
// arrived, and notes how long that took.
func (s *Site) Recovered() { s.recovered(time.Now()) }

// recovered is Recovered for a fault that ended a while ago.
func (s *Site) recovered(began time.Time) {
	s.Helper()
	s.load.mu.Lock()
	want := map[string]uint64{}
	for lane, n := range s.load.sent {
		want[lane] = n + 1
	}
	s.load.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.Context(), recoveryTime)
	defer cancel()
	err := s.arrivals.wait(ctx, func() bool {
		for lane, n := range want {
			if s.arrivals.highest[lane] < n {
				return false
			}
		}
		return true
	})
	if err != nil {
		s.Fatalf("nothing flows %v after the fault's end: status %s", time.Since(began).Round(time.Second), s.Status())
	}
	s.World.Recovered(time.Since(began))
}
