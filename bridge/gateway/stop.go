package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"fleetbridge/bridge/local/services"
	"fleetbridge/mapping"
)

// How long the parts of a stop may take: requests and commands that programs wait for; messages in flight to the broker;
// everything else, which may also use what the parts before have left; and what the store has to write. The contract
// allows 10 s.
const (
	finishTime = 4 * time.Second
	drainTime  = 2 * time.Second
	stopTime   = 2 * time.Second
	closeTime  = time.Second
	// patience takes the place of closeTime while the gateway goes on.
	patience = 10 * time.Second
)

// stopAll stops the gateway. broken: a part of it has failed, so requests and commands can't be finished.
func (g *Gateway) stopAll(service *services.Service, broken bool) error {
	g.log.Info("stopping")
	ts := g.all()
	s := stopping{ts: ts, edges: &g.edges}
	if !broken {
		s.finish = func() {
			ctx, cancel := context.WithTimeout(context.Background(), finishTime)
			defer cancel()
			if g.clerk != nil {
				g.clerk.Drain()
			}
			service.Drain(ctx)
			finishCommands(ts)
		}
	}
	s.first = g.stopTaking
	if !s.run() {
		return errors.New("some parts did not stop in time; nothing is lost, what was queued is stored")
	}
	return nil
}

// stop stops some of the Things while the others go on. When ctx ends it returns early; then stopAll must follow, which goes
// on where this stop has ended.
func (g *Gateway) stop(ctx context.Context, ts []*thing) {
	if len(ts) == 0 {
		return
	}
	requests := g.desks.close(ts)
	s := stopping{ts: ts, hurry: ctx.Done(), finish: func() {
		requests()
		finishCommands(ts)
	}}
	if !s.run() && !s.hurried() {
		g.log.Warn("some parts of the things did not stop in time; nothing is lost, what was queued is stored", "things", named(ts))
	}
	if !s.hurried() {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		g.closeBooks(ctx, ts)
	}
}

// stopping stops Things in three steps. First nothing new is begun for programs, and what they wait for is finished, while
// messages still flow. Then nothing more is taken from the sources, and what is in flight is finished. Then the rest ends.
// Each step may be repeated.
type stopping struct {
	ts     []*thing
	finish func()          // nil: nothing is waited for
	first  func()          // what else stops taking
	edges  *sync.WaitGroup // what else ends in the last step
	hurry  <-chan struct{} // nil: never
}

// run reports whether everything has ended.
func (s stopping) run() bool {
	end := time.Now().Add(finishTime + drainTime + stopTime)
	if s.finish != nil {
		s.inTime(finishTime, s.finish)
	}
	if s.hurried() {
		return false
	}
	if s.first != nil {
		s.first()
	}
	for _, t := range s.ts {
		t.stopTaking()
	}
	wait := drainTime
	if !anyConnected(s.ts) {
		wait = 0 // nothing can be acknowledged now; the store has it
	}
	s.inTime(wait, func() {
		for _, t := range s.ts {
			t.pumps.Wait()
		}
	})
	if s.hurried() {
		return false
	}
	for _, t := range s.ts {
		t.stopWork()
	}
	return s.inTime(time.Until(end), func() {
		for _, t := range s.ts {
			t.pumps.Wait()
			t.edges.Wait()
		}
		if s.edges != nil {
			s.edges.Wait()
		}
		finishCommands(s.ts)
	})
}

func (s stopping) hurried() bool {
	select {
	case <-s.hurry:
		return true
	default:
		return false
	}
}

// inTime reports whether f ended in this time; otherwise f goes on in its goroutine.
func (s stopping) inTime(d time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
		return true
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	case <-s.hurry:
		return false
	}
}

func finishCommands(ts []*thing) {
	var all sync.WaitGroup
	for _, t := range ts {
		all.Go(t.bridge.Finish)
	}
	all.Wait()
}

func anyConnected(ts []*thing) bool {
	for _, t := range ts {
		if t.session.State().Connected {
			return true
		}
	}
	return false
}

// closeBooks makes durable what was settled, and writes the last status. It logs once if there was no time for the former.
func (g *Gateway) closeBooks(ctx context.Context, ts []*thing) {
	type failure struct {
		thing mapping.Thing
		err   error
	}
	failed := make(chan failure, len(ts))
	var all sync.WaitGroup
	for _, t := range ts {
		all.Go(func() { t.bridge.Status.Settle(ctx) })
		all.Go(func() {
			if err := t.lanes.Flush(ctx); err != nil && !errors.Is(err, context.Canceled) {
				failed <- failure{t.bridge.Name, err}
			}
		})
	}
	all.Wait()
	close(failed)
	n := len(failed)
	if first, ok := <-failed; ok {
		g.log.Warn("some messages that the broker has may be sent again after the next start", "things", n, "thing", string(first.thing), "error", first.err)
	}
}
