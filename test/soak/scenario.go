package soak

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"fleetbridge/fleetsim"
)

// Scenario is one kind of fault.
type Scenario struct {
	Name   string
	Faults string // what is done, for the table
	// Waits says that it waits more than it works: in short form all such run at once, before the others.
	Waits bool
	// Common says that it runs where nothing else is asked for: one of each sort. The others want a flag (-all).
	Common bool
	// Apart says that it runs only where it is named (-only): it has a machine's worth of processes of its own.
	Apart bool
	// Patience is how long a long round may take, if more than the others.
	Patience time.Duration
	// Run does it, to a world of its own. What it hands in, and what arrives, goes into the world's
	// ledger; the runner waits for it to be settled, and judges.
	Run func(*World)
}

// Scenarios lists all of them.
func Scenarios() []Scenario {
	return slices.Concat(linkScenarios(), brokerScenarios(), refusalScenarios(), natsScenarios(), bridgeScenarios(), procScenarios(), clusterScenarios())
}

// World is what one round of a scenario works with. Its Fatal ends the round.
type World struct {
	*testing.T
	Seed   uint64
	Random *rand.Rand
	Ledger *fleetsim.Ledger
	// Long tells that there is time: rounds are repeated for minutes. Else one takes 3 s at most.
	Long bool

	ctx      context.Context
	mu       sync.Mutex
	faults   int
	recovery []time.Duration
	atEnd    []func()
	checks   []func()
	mayDie   bool
}

// MayDie tells that messages may end as dead letters here. Elsewhere that counts as a failure: what is
// good goes on.
func (w *World) MayDie() { w.mayDie = true }

// patience is how long a long round may take; a short one half of it.
const patience = 3 * time.Minute

// Context ends before the test's patience does.
func (w *World) Context() context.Context { return w.ctx }

// Fault counts an injected fault.
func (w *World) Fault() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults++
}

// Recovered notes how long it took from the end of a fault until messages flowed as before.
func (w *World) Recovered(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.recovery = append(w.recovery, d)
}

// AtEnd has f called when the scenario is done and before its ledger is judged, the last one first:
// to stop what hands in messages, and to read the dead letters.
func (w *World) AtEnd(f func()) { w.atEnd = append(w.atEnd, f) }

// Check has f called when the ledger is settled.
func (w *World) Check(f func()) { w.checks = append(w.checks, f) }

// Pick is short, or long when there is time.
func (w *World) Pick(short, long int) int {
	if w.Long {
		return long
	}
	return short
}

// Between is a random duration.
func (w *World) Between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.Random.Int64N(int64(most-least)+1))
}

// Pause lets the fault last, or the load flow, for a while: it is part of the scenario, no way to wait
// for something.
func (w *World) Pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.ctx.Done():
		w.Fatal("the round takes too long")
	}
}

// settle ends the round: everything that was accepted must have arrived, in order.
func (w *World) settle() {
	for _, f := range slices.Backward(w.atEnd) {
		f()
	}
	ctx, cancel := context.WithTimeout(w.ctx, time.Duration(w.Pick(15, 40))*time.Second)
	defer cancel()
	if err := w.Ledger.Settled(ctx); err != nil {
		w.Errorf("not everything arrived: %v", err)
	}
	for _, f := range w.checks {
		f()
	}
	report := w.Ledger.Report()
	if err := report.Err(); err != nil {
		w.Error(err)
	}
	if report.Total.Dead > 0 && !w.mayDie {
		w.Errorf("%d good messages ended as dead letters", report.Total.Dead)
	}
}
