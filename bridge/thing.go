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
	Queues                                       map[mapping.Class]Source
	Down                                         Sink
	Graveyard                                    Graveyard
	Archive                                      Archive
	Outbox                                       Outbox
	Handlers                                     Handlers
	API                                          ShadowAPI // nil: none is configured
	Shadows, Statuses, Executions, Leases, Marks Bucket
	Catalog                                      *schemas.Catalog
	Observer                                     Observer
	Now                                          func() time.Time
	Log                                          *slog.Logger
}

// Thing is one Thing's share of the bridge: three pumps and what they decide with.
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
	resync   chan struct{}
}

// NewThing loads what the last run knew of the Thing and wires its parts. Nothing runs yet.
func NewThing(ctx context.Context, c ThingConfig, p Ports) (*Thing, error) {
	shadow, err := LoadShadow(ctx, c.Thing, c.Merged, p.Shadows, p.Archive)
	if err != nil {
		return nil, err
	}
	executions, left, err := LoadExecutions(ctx, c.Thing, p.Executions)
	if err != nil {
		return nil, fmt.Errorf("executions of %s: %w", c.Thing, err)
	}
	events, err := LoadEventClock(ctx, c.Thing, p.Marks)
	if err != nil {
		return nil, err
	}
	p.Log = p.Log.With("thing", string(c.Thing))
	if shadow.damage != nil {
		p.Log.Error("the stored shadow document can't be read and is given up; the reported state kept for merging is lost, so programs should report everything again",
			"key", mapping.Token(string(c.Thing)), "error", shadow.damage)
	}
	leases := NewLeases(c.Thing, p.Leases)
	exchange := NewExchange(c.Thing, p.Cloud, c.Instance)
	t := &Thing{
		Name: c.Thing, Status: NewStatusBoard(c.Thing, p.Statuses),
		ports: p, shadow: shadow, exchange: exchange, left: left,
		gate: NewGate(p.Cloud), resync: make(chan struct{}, 1),
		Desk: &Desk{Thing: c.Thing, Catalog: p.Catalog, Own: c.Own, Exchange: exchange, Leases: leases, Outbox: p.Outbox, Shadow: shadow, API: p.API,
			Down: p.Down, Graveyard: p.Graveyard},
		commands: &Commands{Thing: c.Thing, Policy: c.Commands, Handlers: p.Handlers, Outbox: p.Outbox, Executions: executions,
			Graveyard: p.Graveyard, Catalog: p.Catalog, Log: p.Log, slots: make(chan struct{}, commandSlots), quit: make(chan struct{})},
	}
	if p.API != nil {
		t.gate.Close()
	}
	if p.API != nil && shadow.Known() {
		t.Status.status.Shadow = ShadowStale
	}
	up := &Upward{Catalog: p.Catalog, Own: c.Own, MaxBytes: c.MaxBytes, MaxAge: c.MaxAge, Shadow: shadow, Events: events, Executions: executions, Leases: leases, Now: p.Now, Log: p.Log}
	down := &Downward{Catalog: p.Catalog, Own: c.Own, Shadow: shadow, Exchange: exchange, Executions: executions,
		Commands: t.commands, Archive: p.Archive, Resync: t.wantResync, Now: p.Now}
	t.pumps = append(t.pumps, &Pump{mapping.Down, t.gate, down, p.Down, p.Graveyard, p.Observer, p.Log})
	for _, class := range mapping.Classes {
		t.pumps = append(t.pumps, &Pump{mapping.Up, p.Queues[class], up, p.Cloud, p.Graveyard, p.Observer, p.Log})
	}
	return t, nil
}

// Run pumps until take ends, then finishes what is under way, until work ends at the latest.
func (t *Thing) Run(take, work context.Context) error {
	if err := t.commands.Resume(work, t.left); err != nil {
		return err
	}
	t.left = nil
	t.Status.Save(work)
	pumping, stopped := context.WithCancel(work)
	defer stopped()
	var pumps sync.WaitGroup
	errs := make([]error, len(t.pumps))
	left := atomic.Int32{}
	left.Store(int32(len(t.pumps)))
	for i, p := range t.pumps {
		pumps.Go(func() {
			errs[i] = p.Run(take, work)
			if left.Add(-1) == 0 {
				stopped()
			}
		})
	}
	t.resyncs(pumping) // a goroutine less for each Thing
	pumps.Wait()
	return errors.Join(errs...)
}

// Finish starts no command any more and returns when those under way have ended, or the context work
// has. What did not end is taken up by the next run.
func (t *Thing) Finish() { t.commands.Finish() }

// Connected is told of every change of the connection.
func (t *Thing) Connected(ctx context.Context, edit func(*Status)) {
	t.Status.Change(ctx, func(s *Status) {
		edit(s)
		if !s.Connected && s.Shadow == ShadowKnown {
			s.Shadow = ShadowStale
		}
	})
	if t.ports.API == nil {
		return
	}
	switch s := t.Status.Status(); {
	case !s.Connected:
		t.gate.Close()
	case s.SessionPresent:
		t.gate.Kept()
	}
}

// Ready does what each new connection asks for (protocol page: "Startup Procedure", "Jobs"): fetch the
// shadow, deliver a pending delta, ask for the pending jobs. ctx ends with the connection.
func (t *Thing) Ready(ctx context.Context, sessionPresent bool) {
	if t.ports.API == nil {
		if !sessionPresent {
			t.shadow.NewSession()
		}
	} else if err := t.fetch(ctx); err != nil && ctx.Err() == nil {
		t.unfetched(ctx, err)
		t.wantResync()
	}
	t.gate.Open(ctx)
	jobs := mapping.Address{Thing: t.Name, Channel: mapping.JobsGet}
	if err := t.exchange.Tell(ctx, jobs, func(error) {}); err != nil && !errors.Is(err, ErrNotConnected) && ctx.Err() == nil {
		t.ports.Log.Warn("asking for the pending jobs failed", "error", err)
	}
}

func (t *Thing) wantResync() {
	select {
	case t.resync <- struct{}{}:
	default:
	}
}

// resyncs fetches the shadow again when somebody wants it, until that worked.
func (t *Thing) resyncs(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.resync:
		}
		if t.ports.API == nil {
			continue
		}
		for pause := 5 * time.Second; t.Status.Status().Connected; pause = min(2*pause, 5*time.Minute) {
			if sleep(ctx, pause) != nil {
				return
			}
			if t.fetch(ctx) == nil {
				break
			}
		}
	}
}

// fetch reads the shadow over HTTP and delivers a delta that programs have not seen. The gate is shut
// meanwhile, so that what the broker brings is delivered wholly before the GET or after it.
func (t *Thing) fetch(ctx context.Context) error {
	if err := t.gate.Pause(ctx); err != nil {
		return err
	}
	defer t.gate.Resume()
	body, err := t.ports.API.Shadow(ctx, t.Name)
	if err == nil {
		if r := rejection(t.ports.Catalog.Check("shadow.document", body)); r != nil {
			err = r
		}
	}
	if err != nil {
		return err
	}
	delta := t.shadow.Fetched(body)
	t.shadow.Save(ctx, nil)
	if delta != nil {
		a := mapping.Address{Thing: t.Name, Channel: mapping.ShadowDelta}
		stored := make(chan error, 1)
		m := Message{Address: a, Payload: delta, Received: time.Now(), Origin: a.Topic(), Source: SourceShadowGet}
		if err := t.ports.Down.Send(ctx, m, func(err error) { stored <- err }); err != nil {
			t.shadow.Undelivered()
			return err
		}
		select {
		case err := <-stored:
			if err != nil { // larger than NATS takes
				t.shadow.Undelivered()
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	t.Status.Change(ctx, func(s *Status) {
		s.Shadow = ShadowKnown
		if s.Subscribed { // else the trouble with that is not over
			s.LastError = ""
		}
	})
	return nil
}

func (t *Thing) unfetched(ctx context.Context, err error) {
	state := ShadowUnknown
	if t.shadow.Known() {
		state = ShadowStale
	}
	t.ports.Log.Warn("shadow not fetched", "error", err)
	t.Status.Change(ctx, func(s *Status) { s.Shadow, s.LastError = state, "shadow: "+err.Error() })
}
