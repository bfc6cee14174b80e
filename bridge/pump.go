package bridge

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"fleetbridge/mapping"
)

// Decision is what becomes of a delivery that is no Rejection.
type Decision struct {
	// Forward sends Message to the sink. Otherwise the delivery ends here with Outcome.
	Forward bool
	Message Message
	Outcome Outcome
	// Finish, when set, runs after the durable charge and before the settlement, for what must be
	// remembered first. It must call settle once, from any goroutine, or the source keeps the message.
	Finish func(settle func())
}

// forward sends the message on as it is, or as it was changed.
func forward(m Message) Decision { return Decision{Forward: true, Message: m} }

// drop ends a delivery that needs no forwarding.
func drop(o Outcome) Decision { return Decision{Outcome: o} }

// Decider looks at one delivery after the other, in order. A *Rejection sends it to the graveyard; with
// any other error the pump asks again after a pause, so nothing behind it overtakes.
type Decider interface {
	Decide(ctx context.Context, d Delivery) (Decision, error)
}

// Pump moves messages of one Thing, one way. Its only promise: a delivery is settled after the sink,
// or the graveyard, has taken durable charge of it, and not before every earlier one is.
type Pump struct {
	Direction mapping.Direction
	Source    Source
	Decider   Decider
	Sink      Sink
	Graveyard Graveyard
	Observer  Observer
	Log       *slog.Logger
}

// Pause between two tries of what failed for a passing reason.
const (
	pauseMin = 50 * time.Millisecond
	pauseMax = 5 * time.Second
)

// Run pumps until take ends; then it takes nothing new and returns when all that it took is settled,
// or when work ends. What is unsettled by then stays with the source. It returns nil.
func (p *Pump) Run(take, work context.Context) error {
	var out settlements
	for take.Err() == nil {
		for _, d := range p.Source.Take(take) {
			if err := p.move(work, d, &out); err != nil {
				return nil // work ended: the source keeps it
			}
		}
	}
	select {
	case <-out.idle():
	case <-work.Done():
	}
	return nil
}

// move sees one delivery to its sink. It returns an error only when ctx ends first.
func (p *Pump) move(ctx context.Context, d Delivery, out *settlements) error {
	taken := time.Now()
	settled := out.expect(d.Settle)
	decision, err := p.decide(ctx, d)
	if rejection := (*Rejection)(nil); errors.As(err, &rejection) {
		return p.bury(ctx, d.Message, rejection, taken, settled)
	}
	if err != nil {
		return err
	}
	end := func(o Outcome) func() {
		return func() {
			p.Observer.Outcome(Fate{p.Direction, d.Address.Channel, o, "", taken})
			settled()
		}
	}
	finish := decision.Finish
	if finish == nil {
		finish = func(settle func()) { settle() }
	}
	if !decision.Forward {
		finish(end(decision.Outcome))
		return nil
	}
	return p.Sink.Send(ctx, decision.Message, func(err error) {
		if err == nil {
			finish(end(Delivered))
			return
		}
		rejection := (*Rejection)(nil)
		if !errors.As(err, &rejection) {
			rejection = Rejectf(CodeRefused, "%v", err)
		}
		// The sink's callback must not wait for the graveyard. The number of these goroutines is
		// bounded by what the source hands out unsettled.
		go func() { _ = p.bury(ctx, decision.Message, rejection, taken, settled) }()
	})
}

func (p *Pump) decide(ctx context.Context, d Delivery) (Decision, error) {
	for pause := pauseMin; ; pause = min(2*pause, pauseMax) {
		decision, err := p.Decider.Decide(ctx, d)
		rejection := (*Rejection)(nil)
		if err == nil || errors.As(err, &rejection) || ctx.Err() != nil {
			return decision, err
		}
		if pause == pauseMin {
			p.Log.Warn("message waits", "channel", d.Address.Channel, "error", err)
		}
		if err := sleep(ctx, pause); err != nil {
			return Decision{}, err
		}
	}
}

func (p *Pump) bury(ctx context.Context, m Message, r *Rejection, taken time.Time, settled func()) error {
	p.Log.Debug("dead letter", "channel", m.Address.Channel, "code", r.Code, "error", r.Reason)
	return p.Graveyard.Bury(ctx, Letter{Message: m, Direction: p.Direction, Rejection: r}, func(error) {
		p.Observer.Outcome(Fate{p.Direction, m.Address.Channel, Dead, r.Code, taken})
		settled()
	})
}

// insist tries until f works, with growing pauses, or returns the context's error.
func insist(ctx context.Context, f func() error) error {
	for pause := pauseMin; f() != nil; pause = min(2*pause, pauseMax) {
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	return nil
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
