package bridge

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fleetbridge/mapping"
)

// Decision is what becomes of a delivery that is no Rejection.
type Decision struct {
	// Forward sends Message to the sink. Otherwise the delivery ends here with Outcome.
	Forward bool
	Message Message
	Outcome Outcome
	// Record, when set, is stored together with the message. The sink is a Keeper then.
	Record *Record
	// Finish, when set, runs after the durable charge and before the settlement, for what must be
	// remembered first. It must call settle once, from any goroutine, or the source keeps the message.
	Finish func(settle func())
	// Refused, when set, is called when the sink has rejected the message, before the message is buried. If it returns a
	// message, that one is sent instead. It may block until ctx ends.
	Refused func(ctx context.Context, r *Rejection) *Message
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
	Thing     mapping.Thing
	Direction mapping.Direction
	Source    Source
	Decider   Decider
	Sink      Sink
	Graveyard Graveyard
	Observer  Observer
	Retries   *Retries
	Watch     *Watch // nil: nobody looks
	Log       *slog.Logger

	letters letterLog

	refusals refusals
	passages uint64 // number of the last one
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
	p.letters.log, p.letters.direction = p.Log, p.Direction
	for take.Err() == nil {
		taken := p.Source.Take(take)
		for i := range taken { // without copies: a pump at rest keeps a small stack
			if err := p.move(work, &taken[i], &out); err != nil {
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

// passage is one delivery on its way through the pump, from the decision on.
type passage struct {
	channel  mapping.Channel // it arrived on
	decision Decision
	taken    time.Time
	number   uint64 // of the pump's
	settled  func()

	// Times of the hops, counted from taken; set only if watched. done may be set before sent, because the sink may call
	// back before Send returns.
	watched       bool
	decided, done time.Duration
	sent          atomic.Int64
}

// since is how long ago the passage began, or 0 when nobody looks.
func (w *passage) since() time.Duration {
	if !w.watched {
		return 0
	}
	return time.Since(w.taken)
}

// move sees one delivery to its sink. It returns an error only when ctx ends first.
func (p *Pump) move(ctx context.Context, d *Delivery, out *settlements) error {
	p.passages++
	w := &passage{channel: d.Address.Channel, taken: time.Now(), number: p.passages, settled: out.expect(d.Settle), watched: p.Watch.on()}
	p.hop(hopTaken, w, &d.Message, "")
	var err error
	w.decision, err = p.decide(ctx, d)
	w.decided = w.since()
	if rejection, dead := errors.AsType[*Rejection](err); dead {
		return p.bury(ctx, w, d.Message, rejection)
	}
	if err != nil {
		return err
	}
	if !w.decision.Forward {
		p.hop(hopDecided, w, &d.Message, w.decision.Outcome)
		w.decision.Message = d.Message
		p.finish(w, w.decision.Outcome)
		return nil
	}
	p.hop(hopDecided, w, &w.decision.Message, forwarded)
	return p.send(ctx, w)
}

// send hands a message over to the sink.
func (p *Pump) send(ctx context.Context, w *passage) error {
	done := func(err error) {
		w.done = w.since()
		if err == nil {
			p.hop(hopSent, w, &w.decision.Message, "")
			p.finish(w, Delivered)
			return
		}
		rejection, ok := errors.AsType[*Rejection](err)
		if !ok {
			rejection = Rejectf(CodeRefused, "%v", err)
		}
		// The sink's callback must not wait for the graveyard. The number of these goroutines is
		// bounded by what the source hands out unsettled.
		turn := p.refusals.next()
		go func() { _ = p.refused(ctx, w, rejection, turn) }()
	}
	var err error
	if w.decision.Record != nil {
		err = p.Sink.(Keeper).SendKept(ctx, w.decision.Message, *w.decision.Record, done)
	} else {
		err = p.Sink.Send(ctx, w.decision.Message, done)
	}
	if w.watched {
		w.sent.CompareAndSwap(0, int64(w.since()))
	}
	return err
}

// refusals lets the goroutines that handle rejections run one after the other, in the order in which next was called.
type refusals struct {
	mu   sync.Mutex
	last chan struct{} // closed when the last turn is over
}

// refusalTurn begins when before is closed, and is over when over is.
type refusalTurn struct{ before, over chan struct{} }

func (t *refusals) next() refusalTurn {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := refusalTurn{t.last, make(chan struct{})}
	if now.before == nil {
		now.before = make(chan struct{})
		close(now.before)
	}
	t.last = now.over
	return now
}

// refused handles a rejection by the sink: it sends the message that the decider wants in its place, or buries the
// rejected one. Rejections are handled in order, because an earlier one may be the cause of a later one, and because what
// is sent again must stay in order.
func (p *Pump) refused(ctx context.Context, w *passage, r *Rejection, t refusalTurn) error {
	<-t.before
	defer close(t.over)
	if w.decision.Refused != nil {
		if instead := w.decision.Refused(ctx, r); instead != nil {
			w.decision.Message = *instead
			return p.send(ctx, w)
		}
		if ctx.Err() != nil {
			return ctx.Err() // the source keeps it
		}
	}
	return p.bury(ctx, w, w.decision.Message, r)
}

// finish ends a passage after the durable charge.
func (p *Pump) finish(w *passage, o Outcome) {
	if w.decision.Finish != nil {
		w.decision.Finish(func() { p.end(w, o) })
		return
	}
	p.end(w, o)
}

func (p *Pump) end(w *passage, o Outcome) {
	p.Observer.Outcome(Fate{p.Direction, w.channel, o, "", w.taken})
	p.letters.taken(w.channel)
	p.hop(hopSettled, w, &w.decision.Message, o)
	if p.Watch.on() {
		p.ended(w, &w.decision.Message, o, nil)
	}
	w.settled()
}

// decide asks the decider until it knows.
func (p *Pump) decide(ctx context.Context, d *Delivery) (decision Decision, err error) {
	ended := p.Retries.Until(ctx, d.Address.Thing, "to pass on "+string(d.Address.Channel), func() error {
		decision, err = p.Decider.Decide(ctx, *d)
		if _, dead := errors.AsType[*Rejection](err); dead {
			return nil
		}
		return err
	})
	if ended != nil {
		return Decision{}, ended
	}
	return decision, err
}

func (p *Pump) bury(ctx context.Context, w *passage, m Message, r *Rejection) error {
	p.letters.dead(m.Address.Channel, r)
	p.hop(hopDecided, w, &m, Dead)
	return p.Graveyard.Bury(ctx, Letter{Message: m, Direction: p.Direction, Rejection: r}, func(error) {
		p.Observer.Outcome(Fate{p.Direction, m.Address.Channel, Dead, r.Code, w.taken})
		p.hop(hopSettled, w, &m, Dead)
		if p.Watch.on() {
			p.ended(w, &m, Dead, r)
		}
		w.settled()
	})
}
