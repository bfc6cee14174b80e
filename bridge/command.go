package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// CommandPolicy is how commands are treated, from the configuration.
type CommandPolicy struct {
	// Reject answers REJECTED when nobody has served the command for HandlerWait; otherwise it is left
	// to the programs that read the raw subjects until the deadline.
	Reject      bool
	HandlerWait time.Duration
	DefaultTTL  time.Duration // for a request without ttl
	ClockSkew   time.Duration // how far the cloud's clock may be off
	// Once: another bridge may take the Thing over at any time. So a call is noted before it is made, and a later run does
	// not call again what is noted, but waits for its reply until the deadline.
	Once bool
}

// The statuses of a response that the bridge itself writes (protocol page: "Send a Command Response").
const (
	statusSucceeded = "SUCCEEDED"
	statusFailed    = "FAILED"
	statusRejected  = "REJECTED"
	statusTimedOut  = "TIMED_OUT"
)

// deadline reads when an execution ends: timestamp + ttl. Without a timestamp the ttl counts from the
// arrival, without a ttl the default holds from the arrival.
func (p CommandPolicy) deadline(payload []byte, received time.Time) time.Time {
	ttl := gjson.GetBytes(payload, "ttl")
	if ttl.Type != gjson.Number {
		return received.Add(p.DefaultTTL)
	}
	start, ok := mapping.Moment(gjson.GetBytes(payload, "timestamp"))
	if !ok || start.Sub(received) > maxTTL { // or a year of five digits, which no record of an execution can hold
		start = received
	}
	return start.Add(time.Duration(min(max(ttl.Float(), 0), maxTTL.Seconds()) * float64(time.Second)))
}

// maxTTL keeps absurd ttl and timestamp values from overflowing.
const maxTTL = 10 * 365 * 24 * time.Hour

// Commands runs executions on local handlers: at most one at a time for each, until somebody's response
// was taken or the deadline is reached.
type Commands struct {
	Thing      mapping.Thing
	Policy     CommandPolicy
	Handlers   Handlers
	Outbox     Outbox
	Executions *Executions
	Graveyard  Graveyard
	Catalog    *schemas.Catalog
	Own        *schemas.ThingSchemas // nil: the Thing brings none
	Retries    *Retries
	Watch      *Watch // nil: nobody looks
	Log        *slog.Logger

	slots   chan struct{}
	running sync.WaitGroup

	mu   sync.Mutex
	quit chan struct{} // closed by Finish
}

// commandSlots bounds how many commands of one Thing run at once, so that one that nobody serves
// can't use up another Thing's memory. More wait in order of arrival, until their deadline.
const commandSlots = 64

// Start runs an execution in the background until ctx ends; then it stays open and the next run of the
// bridge takes it up.
func (c *Commands) Start(ctx context.Context, e *Execution) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if closed(c.quit) {
		e.hangUp()
		return
	}
	c.running.Go(func() {
		defer e.hangUp()
		reply, goesOn := c.earlier(ctx, e)
		if !goesOn {
			return
		}
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-e.Answered():
			return
		case <-ctx.Done():
			return
		}
		c.run(ctx, e, reply)
	})
}

// leftWait is longer than programs take to reconnect and to send the replies that they had ready.
const leftWait = 5 * time.Second

// earlier waits a while for the reply to a call of an earlier run: its handler may still be working, or nobody was called.
// It needs no slot for that. goesOn is false when somebody else has answered meanwhile, or when the bridge stops: then
// the execution stays open.
func (c *Commands) earlier(ctx context.Context, e *Execution) (reply *Reply, goesOn bool) {
	wait := min(leftWait, c.Policy.HandlerWait, time.Until(e.Deadline)/2)
	if c.Policy.Once && e.left {
		if !e.Called {
			return nil, true
		}
		c.Log.Info("a command was called by the bridge before this one, and is not called again: its reply is waited for", "execution", e.ID, "action", e.Action)
		wait = max(time.Until(e.Deadline.Add(c.Policy.ClockSkew)), time.Second) // a reply may be there
	}
	if !e.left || wait <= 0 || c.open(e) != nil {
		return nil, true
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	go func() {
		select {
		case <-e.Answered():
		case <-c.quit:
		case <-waiting.Done():
		}
		cancel()
	}()
	r, err := e.line.Wait(waiting)
	if err == nil {
		return &r, true
	}
	if c.Policy.Once && e.Called && ctx.Err() == nil && waiting.Err() != nil && !closed(e.Answered()) && !closed(c.quit) {
		c.Answer(ctx, e.ID, c.decided(e, statusTimedOut, "no answer by the deadline: the bridge that called a program has ended, and the program's reply did not come"), e.Trace)
		return nil, false
	}
	return nil, ctx.Err() == nil && !closed(e.Answered()) && !closed(c.quit)
}

// Resume goes on with the executions that the last run left open. If an answer to one waits in the outbox, Resume goes on
// with it only when that answer has left and is not the response: it was not valid or too late, and is a dead letter. The
// outbox may not answer for a while; nothing but these executions waits for that.
func (c *Commands) Resume(ctx context.Context, left []*Execution) error {
	for _, e := range left { // first of all, because a reply is lost while nobody listens
		if err := c.open(e); err != nil {
			return err
		}
	}
	if len(left) == 0 {
		return nil
	}
	asking, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-c.quit:
		case <-ctx.Done():
		}
	}()
	for _, e := range left {
		c.running.Go(func() {
			pending, err := c.pending(asking, e)
			switch {
			case err != nil || closed(e.Answered()):
				e.hangUp()
			case !pending:
				c.Start(ctx, e)
			default:
				go c.behind(ctx, e)
			}
		})
	}
	return nil
}

// behind starts an execution when the outbox has no answer for it any more, if it still needs one.
func (c *Commands) behind(ctx context.Context, e *Execution) {
	for pause := pauseMin; ; pause = min(2*pause, pauseMax) {
		if flow.Sleep(ctx, pause) != nil {
			break
		}
		pending, err := c.pending(ctx, e)
		if err != nil || closed(e.Answered()) {
			break
		}
		if !pending {
			c.Start(ctx, e)
			return
		}
	}
	e.hangUp()
}

// pending asks the outbox whether it has an answer for the execution, until it says so or ctx ends.
func (c *Commands) pending(ctx context.Context, e *Execution) (pending bool, err error) {
	err = c.Retries.Until(ctx, c.Thing, "to look for the answer to a command", func() (err error) {
		pending, err = c.Outbox.Pending(ctx, c.address(e.ID))
		return err
	})
	return pending, err
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Finish starts nothing new and returns when every execution that was started has ended, or has to wait
// for the next run because the context of Start has.
func (c *Commands) Finish() {
	c.mu.Lock()
	if !closed(c.quit) {
		close(c.quit)
	}
	c.mu.Unlock()
	c.running.Wait()
}

func (c *Commands) address(id string) mapping.Address {
	return mapping.Address{Thing: c.Thing, Channel: mapping.CommandResponse, ID: id}
}

// run gets the response and hands it over; reply is nil or a reply that has come already.
func (c *Commands) run(parent context.Context, e *Execution, reply *Reply) {
	ctx, cancel := context.WithDeadline(parent, e.Deadline.Add(c.Policy.ClockSkew))
	defer cancel()
	go func() { // a raw response that comes first ends the call
		select {
		case <-e.Answered():
			cancel()
		case <-ctx.Done():
		}
	}()
	payload, trace := c.call(ctx, e, reply)
	if parent.Err() != nil {
		return // stays open
	}
	select {
	case <-e.Answered():
		return
	default:
	}
	if payload == nil {
		reason := "no answer by the deadline"
		if e.unanswered {
			reason += ": a program subscribes to " + e.Action + ", and none replied; one that only watches counts, too"
			if e.heard != "" {
				reason += ". It went to " + e.heard
			}
		}
		payload = c.decided(e, statusTimedOut, reason)
	}
	c.Answer(parent, e.ID, payload, trace)
}

// call returns the response payload, or nil when ctx ended first, and the trace that the response belongs
// to. The reply to a call of an earlier run counts whenever it comes.
func (c *Commands) call(ctx context.Context, e *Execution, early *Reply) ([]byte, Trace) {
	if early != nil {
		return c.reply(ctx, e, *early)
	}
	giveUp := time.Now().Add(c.Policy.HandlerWait)
	wait := time.Duration(0)
	for pause := pauseMin; ; pause = min(2*pause, time.Second) {
		reply, err := c.attempt(ctx, e, wait)
		switch {
		case err == nil:
			c.Log.Debug("command replied to by a program", "execution", e.ID, "action", e.Action, "bytes", len(reply.Payload), "code", reply.ErrorCode)
			return c.reply(ctx, e, reply)
		case ctx.Err() != nil:
			return nil, e.Trace
		case errors.Is(err, ErrNoHandler):
			left := time.Until(giveUp)
			if c.Policy.Reject {
				if left <= 0 {
					return c.decided(e, statusRejected, "no handler for "+e.Action), e.Trace
				}
				pause = min(pause, left)
			}
		default:
			c.Log.Debug("command call failed", "execution", e.ID, "error", err)
		}
		wait = pause
	}
}

// reply turns a handler's reply into the response payload, with the trace that the response belongs to.
func (c *Commands) reply(ctx context.Context, e *Execution, r Reply) ([]byte, Trace) {
	if r.Trace == (Trace{}) {
		r.Trace = e.Trace
	}
	if c.Watch.on() {
		c.saw(e, Sighting{Outcome: Replied, Direction: mapping.Up, Payload: r.Payload, Code: r.ErrorCode, Reason: r.Error, Trace: r.Trace})
	}
	return c.payload(ctx, e, r), r.Trace
}

func (c *Commands) payload(ctx context.Context, e *Execution, r Reply) []byte {
	if r.Error != "" || r.ErrorCode != "" {
		return response(statusFailed, result{Error: r.Error, Code: r.ErrorCode})
	}
	if len(r.Payload) == 0 {
		return response(statusSucceeded, result{})
	}
	m := Message{Address: c.address(e.ID), Payload: r.Payload, Received: time.Now(), Trace: r.Trace}
	// A reply that is here counts, even if ctx has ended. The check takes only a moment.
	lasting := context.WithoutCancel(ctx)
	err := check(lasting, c.Catalog, nil, m)
	if err == nil {
		err = rejection(lasting, c.Own.CheckResult(lasting, e.Action, m.Payload))
	}
	broken := (*Rejection)(nil)
	switch {
	case err == nil:
		return r.Payload
	case !errors.As(err, &broken):
		return nil
	}
	broken.Reason = fmt.Sprintf("the reply of the handler for %s is no valid response: %s", e.Action, broken.Reason)
	if err := buryAndWait(ctx, c.Graveyard, Letter{Message: m, Direction: mapping.Up, Rejection: broken}); err != nil {
		return nil
	}
	return c.decided(e, statusFailed, broken.Reason)
}

// decided makes a response in the place of a program's, and logs it.
func (c *Commands) decided(e *Execution, status, reason string) []byte {
	c.Log.Info("command answered by the bridge", "execution", e.ID, "action", e.Action, "status", status, "reason", reason)
	payload := response(status, result{Error: reason})
	if c.Watch.on() {
		c.saw(e, Sighting{Outcome: Decided, Direction: mapping.Up, Payload: payload, Code: status, Reason: reason, Trace: e.Trace})
	}
	return payload
}

// saw shows viewers what happens to an execution.
func (c *Commands) saw(e *Execution, s Sighting) {
	s.Address, s.Action = mapping.Address{Thing: c.Thing, Channel: mapping.CommandRequest, ID: e.ID}, e.Action
	if s.Direction == mapping.Up {
		s.Address.Channel = mapping.CommandResponse
		if !e.called.IsZero() { // else in an earlier run, or never
			s.Took = time.Since(e.called)
		}
	}
	c.Watch.tell(s)
}

// Answer puts a response that the bridge wrote into the outbox, where it waits and is claimed like
// every program's. It tries until ctx ends.
func (c *Commands) Answer(ctx context.Context, id string, payload []byte, t Trace) {
	_ = c.Retries.Until(ctx, c.Thing, "to store the answer to a command", func() error {
		_, err := c.Outbox.Enqueue(ctx, c.address(id), payload, t)
		return err
	})
}

// result is what the bridge says in a response of its own.
type result struct {
	Error string
	Code  string
}

func response(status string, r result) []byte {
	type body struct {
		Error string `json:"error,omitempty"`
		Code  any    `json:"code,omitempty"`
	}
	out := struct {
		Status string `json:"status"`
		Result *body  `json:"result,omitempty"`
	}{Status: status}
	if r != (result{}) {
		out.Result = &body{Error: r.Error}
		if n, err := strconv.ParseInt(r.Code, 10, 64); err == nil {
			out.Result.Code = n
		} else if r.Code != "" {
			out.Result.Code = r.Code
		}
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic(fmt.Sprintf("bridge: a response that cannot be printed: %v", err)) // strings and numbers always can
	}
	return b
}

// buryAndWait stores a dead letter and returns when it is durable, or when ctx ends.
func buryAndWait(ctx context.Context, g Graveyard, l Letter) error {
	done := make(chan struct{})
	if err := g.Bury(ctx, l, func(error) { close(done) }); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
