package bridge

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// attempt waits this long for the reply to an earlier call, and then makes one more.
func (c *Commands) attempt(ctx context.Context, e *Execution, wait time.Duration) (Reply, error) {
	if err := c.open(e); err != nil {
		_ = flow.Sleep(ctx, max(wait, pauseMin))
		return Reply{}, err
	}
	if wait > 0 {
		waiting, cancel := context.WithTimeout(ctx, wait)
		reply, err := e.line.Wait(waiting)
		cancel()
		if err == nil || ctx.Err() != nil {
			return reply, err
		}
	}
	c.Log.Debug("command goes to programs", "execution", e.ID, "action", e.Action, "bytes", len(e.Payload))
	if err := c.note(ctx, e); err != nil {
		return Reply{}, err
	}
	if e.called.IsZero() { // a call that finds nobody is repeated
		e.called = time.Now()
		if c.Watch.on() {
			c.saw(e, Sighting{Outcome: Called, Direction: mapping.Down, Payload: e.Payload, Reason: e.Action, Trace: e.Trace})
		}
	}
	reply, err := e.line.Call(ctx, Call{Thing: c.Thing, Execution: e.ID, Action: e.Action, Payload: e.Payload, Deadline: e.Deadline, Trace: e.Trace})
	e.unanswered = err != nil && ctx.Err() != nil && !errors.Is(err, ErrNoHandler)
	if silent := (*Unanswered)(nil); errors.As(err, &silent) {
		e.heard = silent.Heard
	}
	if c.Policy.Once && errors.Is(err, ErrNoHandler) {
		if err := c.Executions.Note(ctx, e, false); err != nil {
			c.Log.Debug("cannot note that nobody was called", "execution", e.ID, "error", err)
		}
	}
	return reply, err
}

// noteAge is how old a note may be when the call is made: another bridge takes over no sooner than that.
const noteAge = 3 * time.Second

// note makes sure that a later run knows of the call that is about to be made.
func (c *Commands) note(ctx context.Context, e *Execution) error {
	for c.Policy.Once {
		sent := time.Now()
		if err := c.Executions.Note(ctx, e, true); err != nil {
			_ = flow.Sleep(ctx, pauseMin)
			return err
		}
		if time.Since(sent) < noteAge {
			break
		}
	}
	return nil
}

// open listens for replies, from now until hangUp.
func (c *Commands) open(e *Execution) (err error) {
	if e.line != nil {
		return nil
	}
	if e.Reply == "" {
		e.Reply = rand.Text()
	}
	e.line, err = c.Handlers.Listen(c.Thing, e.Reply)
	return err
}
