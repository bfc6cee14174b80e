package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// ThingConfig is what distinguishes one Thing from another.
type ThingConfig struct {
	Thing    mapping.Thing
	Own      *schemas.ThingSchemas // nil: it brings none
	Merged   bool                  // shadow.report: merged
	MaxBytes int
	MaxAge   time.Duration // of what waits for the broker; 0: none
	Commands CommandPolicy
	// Patience is how long the cloud may take to answer what the bridge asks by itself; 0: for ever.
	Patience time.Duration
	// Instance is unique to this run of the bridge.
	Instance string
}

// Ports is everything outside that a Thing works with.
type Ports struct {
	Cloud interface { // its session
		Source
		Sink
		Link
	}
	Lanes                     map[mapping.Kind]Source // the Thing's
	Outbox                    Outbox
	Down                      Sink
	Archive                   Archive
	Graveyard                 Graveyard
	Shadows                   ShadowView
	Statuses                  StatusView
	Executions, Leases, Marks State
	MaxRecord                 int // bytes that views and State take, for key and value together; 0: no limit
	Handlers                  Handlers
	API                       ShadowAPI    // nil: none is configured
	Commands                  *CommandRoom // nil: as many as come
	Retries                   *Retries
	Watch                     *Watch // nil: nobody looks
	Clocks                    *ClockWatch
	Catalog                   *schemas.Catalog
	Observer                  Observer
	Silent                    func(mapping.Thing, bool) // hears whether the cloud leaves jobs/get unanswered; may be nil
	Now                       func() time.Time
	Log                       *slog.Logger
}

// Thing is one Thing's share of the bridge: a pump down, one up for each kind, and what they decide with.
type Thing struct {
	Name   mapping.Thing
	Status *StatusBoard
	Desk   *Desk

	ports    Ports
	shadow   *Shadow
	exchange *Exchange
	commands *Commands
	gate     *Gate
	left     []*Execution // open since the last run
	pumps    []*Pump
	resync   errand
	silence  silence
	answers  time.Duration // how long the cloud may take to answer
	fetcher  fetcher
	patience sync.Once              // see baseUnknown
	said     atomic.Pointer[string] // the reason that was logged for a shadow that was not fetched; nil: it is fetched
}

// NewThing loads what the last run knew of the Thing and wires its parts. Nothing runs yet.
func NewThing(ctx context.Context, c ThingConfig, p Ports) (*Thing, error) {
	p.Log = p.Log.With("thing", string(c.Thing))
	shadow, err := LoadShadow(ctx, ShadowConfig{Thing: c.Thing, Merged: c.Merged, Fetches: p.API != nil, MaxRecord: p.MaxRecord}, p.Shadows, p.Archive)
	if err != nil {
		return nil, err
	}
	shadow.size.log, shadow.saver.retries = p.Log, p.Retries
	executions, left, err := LoadExecutions(ctx, c.Thing, p.Executions)
	if err != nil {
		return nil, fmt.Errorf("executions of %s: %w", c.Thing, err)
	}
	executions.MaxRecord, executions.Retries, executions.Room = p.MaxRecord, p.Retries, p.Commands
	events, err := LoadEventClock(ctx, c.Thing, p.Marks)
	if err != nil {
		return nil, err
	}
	events.Log, events.save.retries = p.Log, p.Retries
	for _, err := range executions.damage {
		p.Log.Error("a command that was under way can't be read and is given up; it ends TIMED_OUT in the cloud unless it is sent again", "error", err)
	}
	if events.damage != nil {
		p.Log.Error("the event clock can't be read and is given up; an event whose sending was under way may come twice", "key", mapping.Token(string(c.Thing)), "error", events.damage)
	}
	if shadow.damage != nil {
		p.Log.Error("the stored shadow document can't be read and is given up; the reported state kept for merging is lost, so programs should report everything again",
			"key", mapping.Token(string(c.Thing)), "error", shadow.damage)
	}
	overruns := &overruns{log: p.Log}
	leases := NewLeases(c.Thing, p.Leases)
	exchange := NewExchange(c.Thing, p.Cloud, c.Instance)
	t := &Thing{
		Name: c.Thing, Status: NewStatusBoard(c.Thing, p.Statuses),
		ports: p, shadow: shadow, exchange: exchange, left: left,
		gate: NewGate(p.Cloud), fetcher: fetcher{thing: c.Thing, api: p.API, catalog: p.Catalog, shadow: shadow},
		Desk: &Desk{Thing: c.Thing, Catalog: p.Catalog, Own: c.Own, Exchange: exchange, Leases: leases, Outbox: p.Outbox, Shadow: shadow, API: p.API,
			Down: p.Down, Graveyard: p.Graveyard, Retries: p.Retries, overruns: overruns},
		commands: &Commands{Thing: c.Thing, Policy: c.Commands, Handlers: p.Handlers, Outbox: p.Outbox, Executions: executions,
			Graveyard: p.Graveyard, Catalog: p.Catalog, Own: c.Own, Retries: p.Retries, Watch: p.Watch, Log: p.Log, slots: make(chan struct{}, commandSlots), quit: make(chan struct{})},
	}
	t.Status.saver.retries = p.Retries
	shadow.refresh = t.refresh
	t.resync.do, t.answers = t.fetchAgain, c.Patience
	exchange.Heard = t.jobsHeard
	if p.API != nil {
		t.gate.Close()
	}
	if p.API != nil && shadow.Known() {
		t.Status.status.Shadow = ShadowStale
	}
	up := &Upward{Catalog: p.Catalog, Own: c.Own, MaxBytes: c.MaxBytes, MaxAge: c.MaxAge, Shadow: shadow, Events: events, Executions: executions, Leases: leases, Now: p.Now, Log: p.Log, overruns: overruns}
	_, keeps := p.Down.(Keeper)
	down := &Downward{Catalog: p.Catalog, Own: c.Own, Shadow: shadow, Exchange: exchange, Executions: executions,
		Commands: t.commands, Archive: p.Archive, Keeps: keeps, Resync: t.wantResync, Now: p.Now, Log: p.Log, overruns: overruns, arrivals: arrivals{watch: p.Clocks}}
	pump := func(d mapping.Direction, from Source, by Decider, to Sink) {
		t.pumps = append(t.pumps, &Pump{Thing: c.Thing, Direction: d, Source: from, Decider: by, Sink: to, Graveyard: p.Graveyard, Observer: p.Observer, Retries: p.Retries, Watch: p.Watch, Log: p.Log})
	}
	pump(mapping.Down, t.gate, down, p.Down)
	for _, kind := range mapping.Kinds {
		pump(mapping.Up, p.Lanes[kind], up, p.Cloud)
	}
	return t, nil
}

// Run pumps until take ends, then finishes what is under way, until work ends at the latest.
func (t *Thing) Run(take, work context.Context) error {
	t.commands.Executions.enter()
	defer t.commands.Executions.leave()
	if err := t.commands.Resume(work, t.left); err != nil {
		return err
	}
	t.left = nil
	t.shadow.setLifetime(work)
	t.Status.Save(work)
	pumping, stopped := context.WithCancel(work)
	defer stopped()
	t.resync.begin(pumping)
	var pumps sync.WaitGroup
	errs := make([]error, len(t.pumps))
	for i, p := range t.pumps[1:] {
		pumps.Go(func() { errs[i+1] = p.Run(take, work) })
	}
	errs[0] = t.pumps[0].Run(take, work) // here, which saves a goroutine for each Thing
	pumps.Wait()
	stopped()
	t.resync.end()
	return errors.Join(errs...)
}

// Finish starts no command any more and returns when those under way have ended, or the context work
// has. What did not end is taken up by the next run.
func (t *Thing) Finish() { t.commands.Finish() }

// Connected must be called at each change of the connection. edit changes the status.
func (t *Thing) Connected(ctx context.Context, edit func(*Status)) {
	was, now := false, Status{}
	t.Status.Change(ctx, func(s *Status) {
		was = s.Connected
		edit(s)
		now = *s
		if !s.Connected && s.Shadow == ShadowKnown {
			s.Shadow = ShadowStale
		}
	})
	if was != now.Connected && t.ports.Watch.on() {
		seen := Sighting{Outcome: Connected, Address: mapping.Address{Thing: t.Name}}
		if !now.Connected {
			seen.Outcome, seen.Reason = Disconnected, now.LastError
		}
		t.ports.Watch.tell(seen)
	}
	if t.ports.API == nil {
		return
	}
	switch s := t.Status.Status(); {
	case !s.Connected:
		t.gate.Close()
	case s.SessionPresent:
		t.gate.Kept()
		fallthrough
	default:
		t.baseUnknown()
	}
}

// Ready does what each new connection asks for (protocol page: "Startup Procedure", "Jobs"): fetch the
// shadow, deliver a pending delta, ask for the pending jobs. ctx ends with the connection.
func (t *Thing) Ready(ctx context.Context, sessionPresent bool) {
	if t.ports.API == nil {
		if !sessionPresent {
			t.shadow.NewSession()
		}
		t.gate.Open(ctx)
		t.askForJobs(ctx)
		return
	}
	// A slow GET must not delay anything else.
	ready := time.AfterFunc(gateTime, func() {
		t.gate.Open(ctx)
		t.askForJobs(ctx)
	})
	if err := t.fetch(ctx); err != nil && ctx.Err() == nil {
		t.unfetched(ctx, err)
		t.wantResync()
	}
	if ready.Stop() {
		t.gate.Open(ctx)
		t.askForJobs(ctx)
	}
}

// refresh publishes the whole reported state once more: it enqueues a report of the bridge's own that changes nothing.
func (t *Thing) refresh() {
	a := mapping.Address{Thing: t.Name, Channel: mapping.ShadowReport}
	go func() {
		_ = t.ports.Retries.Until(t.shadow.lifetime(), t.Name, "to publish the whole reported state again", func() error {
			_, err := t.ports.Outbox.Enqueue(t.shadow.lifetime(), a, []byte(`{"state":{"reported":{}}}`), Trace{})
			return err
		})
	}()
}

func (t *Thing) wantResync() {
	if t.ports.API != nil {
		t.resync.want()
	}
}
