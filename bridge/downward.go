package bridge

import (
	"context"
	"errors"
	"time"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// Downward decides what becomes of one Thing's messages from the cloud.
type Downward struct {
	Catalog    *schemas.Catalog
	Own        *schemas.ThingSchemas
	Shadow     *Shadow
	Exchange   *Exchange
	Executions *Executions
	Commands   *Commands
	Archive    Archive
	// Resync is called when only a GET can tell which shadow version is the newest. It must not block.
	Resync func()
	Now    func() time.Time
}

// Decide checks a message and finds out whether programs should see it.
func (d *Downward) Decide(ctx context.Context, dv Delivery) (Decision, error) {
	switch {
	case errors.Is(dv.Err, mapping.ErrOwnEcho), errors.Is(dv.Err, mapping.ErrReportAnswer):
		return drop(Duplicate), nil
	case dv.Err != nil:
		return Decision{}, dv.Err
	case dv.Address.Channel == mapping.CommandRequest:
		return d.command(ctx, dv.Message)
	case dv.Address.Channel == mapping.ShadowDesired && ownReport(dv.Payload):
		return drop(Duplicate), nil
	}
	m := dv.Message
	if r := check(d.Catalog, d.Own, m.Address, m.Payload); r != nil {
		return Decision{}, r
	}
	switch m.Address.Channel {
	case mapping.ShadowDesired:
		return d.desired(ctx, m)
	case mapping.ShadowDelta:
		decision := d.shadow(ctx, m, d.Shadow.Delta(m.Payload))
		if d.Shadow.WantsResync() {
			d.Resync()
		}
		return decision, nil
	case mapping.JobsNotify, mapping.JobsNotifyNext:
		return forward(m), nil
	default: // an answer
		m, taken := d.Exchange.Answer(m)
		if taken {
			return drop(Delivered), nil
		}
		return forward(m), nil
	}
}

// ownReport tells a report that came back on shadow/update from a desired push: a broker that ignores
// No Local, or another client, sends such.
func ownReport(payload []byte) bool {
	state := gjson.GetBytes(payload, "state")
	return gjson.ValidBytes(payload) && state.Get("reported").Exists() && !state.Get("desired").Exists()
}

func (d *Downward) desired(ctx context.Context, m Message) (Decision, error) {
	if gjson.GetBytes(m.Payload, "state.reported").Exists() {
		only, err := sjson.DeleteBytes(m.Payload, "state.reported")
		if err != nil {
			return Decision{}, Rejectf(CodeJSON, "taking out state.reported: %v", err)
		}
		m.Payload = only
	}
	return d.shadow(ctx, m, d.Shadow.Desired(m.Payload)), nil
}

func (d *Downward) shadow(ctx context.Context, m Message, deliver bool) Decision {
	if !deliver {
		return drop(Duplicate)
	}
	d.Shadow.Save(ctx, nil) // a cache: the stream holds the message itself
	return forward(m)
}

// command takes a request once per execution, answers at once what can't run, and starts the rest
// after it is durable.
func (d *Downward) command(ctx context.Context, m Message) (Decision, error) {
	if m.Retained { // it would run again at each subscribe
		return drop(Duplicate), nil
	}
	seen, err := d.Executions.Seen(ctx, m.Address.ID)
	if err != nil {
		return Decision{}, err
	}
	if seen {
		return drop(Duplicate), nil
	}
	if r := check(d.Catalog, d.Own, m.Address, m.Payload); r != nil {
		return Decision{}, d.refuse(ctx, m, statusRejected, r)
	}
	deadline := d.Commands.Policy.deadline(m.Payload, m.Received)
	if late := d.Now().Sub(deadline); late > d.Commands.Policy.ClockSkew {
		r := Rejectf(CodeExpired, "the command's time was over %s before it arrived", late.Round(time.Millisecond))
		return Decision{}, d.refuse(ctx, m, statusTimedOut, r)
	}
	decision := forward(m)
	switch _, err := d.Archive.Last(ctx, m.Address); {
	case err == nil: // stored just before the bridge was killed
		decision = drop(Delivered)
	case !errors.Is(err, ErrNotFound):
		return Decision{}, err
	}
	e := &Execution{
		ID: m.Address.ID, Action: gjson.GetBytes(m.Payload, "action").String(),
		Payload: m.Payload, Received: m.Received, Deadline: deadline, Trace: m.Trace,
	}
	d.Executions.Begin(e)
	decision.Finish = func(settle func()) { go d.open(ctx, e, settle) }
	return decision, nil
}

// open makes the execution durable, lets the broker forget the request, and starts the handler.
func (d *Downward) open(ctx context.Context, e *Execution, settle func()) {
	if insist(ctx, func() error { return d.Executions.Open(ctx, e) }) != nil {
		return
	}
	settle()
	d.Commands.Start(ctx, e)
}

// refuse answers a command that won't run and returns why, for the dead letter.
func (d *Downward) refuse(ctx context.Context, m Message, status string, r *Rejection) error {
	payload := response(status, result{Error: r.Reason})
	if _, err := d.Commands.Outbox.Enqueue(ctx, d.Commands.address(m.Address.ID), payload, m.Trace); err != nil {
		return err
	}
	return r
}
