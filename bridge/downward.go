package bridge

import (
	"context"
	"errors"
	"log/slog"
	"strings"
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
	// Keeps: the sink is a Keeper, so a command is stored together with the record of its execution.
	Keeps bool
	// Resync is called when only a GET can tell which shadow version is the newest. It must not block.
	Resync func()
	Now    func() time.Time

	Log *slog.Logger

	overruns *overruns
	arrivals arrivals
	odd      map[string]bool // properties that are not writable, were desired all the same, and were logged
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
	if err := d.check(ctx, m); err != nil {
		return Decision{}, err
	}
	switch m.Address.Channel {
	case mapping.ShadowDesired:
		return d.desired(ctx, m)
	case mapping.ShadowDelta:
		d.warnOfReadOnly(m.Payload, "state")
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

func (d *Downward) check(ctx context.Context, m Message) error {
	if m.Size > len(m.Payload) { // only its head was kept
		return rejection(ctx, d.Catalog.TooLarge(m.Size))
	}
	err := check(ctx, d.Catalog, d.Own, m)
	d.overruns.note(m.Address, err)
	return err
}

// ownReport reports whether a message on shadow/update is a report that came back, and no desired push. It comes from a
// broker that ignores No Local, or from another client.
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
	d.warnOfReadOnly(m.Payload, "state.desired")
	return d.shadow(ctx, m, d.Shadow.Desired(m.Payload)), nil
}

// warnOfReadOnly warns once of each property that the cloud desires although the Thing Type says that it is not writable.
// Programs get it all the same.
func (d *Downward) warnOfReadOnly(payload []byte, path string) {
	if !d.Own.HasReadOnly() {
		return
	}
	var names []string
	gjson.GetBytes(payload, path).ForEach(func(name, _ gjson.Result) bool {
		names = append(names, name.String())
		return true
	})
	for _, name := range d.Own.NotWritable(names) {
		if d.odd[name] {
			continue
		}
		if d.odd == nil {
			d.odd = map[string]bool{}
		}
		d.odd[name] = true
		d.Log.Warn("the cloud desires what the Thing Type does not let it set; programs get it as it is", "property", name)
	}
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
	if err := d.check(ctx, m); err != nil {
		if r := (*Rejection)(nil); errors.As(err, &r) {
			err = d.refuse(ctx, m, statusRejected, r)
		}
		return Decision{}, err
	}
	if sent, ok := mapping.Moment(gjson.GetBytes(m.Payload, "timestamp")); ok {
		d.arrivals.note(m.Received, sent)
	}
	deadline := d.Commands.Policy.deadline(m.Payload, m.Received)
	if late := d.Now().Sub(deadline); late > d.Commands.Policy.ClockSkew {
		r := Rejectf(CodeExpired, "the command's time was over %s before it arrived%s", late.Round(time.Millisecond), d.arrivals.watch.because())
		return Decision{}, d.refuse(ctx, m, statusTimedOut, r)
	}
	decision := forward(m)
	if !d.Keeps {
		switch _, err := d.Archive.Last(ctx, m.Address); {
		case err == nil: // stored just before the bridge was killed
			decision = drop(Delivered)
		case !errors.Is(err, ErrNotFound):
			return Decision{}, err
		}
	}
	e := &Execution{
		ID: m.Address.ID, Action: gjson.GetBytes(m.Payload, "action").String(),
		Payload: m.Payload, Received: m.Received, Deadline: deadline, Trace: m.Trace,
	}
	err = d.Executions.Fits(e)
	if n := len(e.Action); err == nil && n > mapping.MaxIDBytes { // it becomes a token of the subject that handlers have
		err = Rejectf(CodeTooLarge, "action has %d bytes, at most %d are allowed", n, mapping.MaxIDBytes)
	}
	if err == nil {
		err = d.Executions.Begin(e)
	}
	if err != nil {
		r := (*Rejection)(nil)
		if errors.As(err, &r) {
			err = d.refuse(ctx, m, statusRejected, r)
		}
		return Decision{}, err
	}
	decision.Finish = func(settle func()) { go d.open(ctx, e, settle) }
	if d.Keeps {
		value, err := e.print()
		if err != nil {
			return Decision{}, err
		}
		decision.Record = &Record{d.Executions.key("open", e.ID), value}
		decision.Finish = func(settle func()) { d.opened(ctx, e, settle) }
	}
	decision.Refused = func(ctx context.Context, r *Rejection) *Message { // larger than NATS takes
		d.Commands.Answer(ctx, e.ID, response(statusRejected, result{Error: r.Reason}), m.Trace)
		return nil
	}
	return decision, nil
}

// opened goes on with an execution whose record is durable.
func (d *Downward) opened(ctx context.Context, e *Execution, settle func()) {
	if closed(e.answered) { // while the record was written
		go d.Executions.forget(ctx, e.ID)
	}
	settle()
	d.Commands.Start(ctx, e)
}

// open makes the execution durable, has the request acknowledged to the broker, and starts the handler.
func (d *Downward) open(ctx context.Context, e *Execution, settle func()) {
	var tooLarge error
	ended := d.Commands.Retries.Until(ctx, d.Commands.Thing, "to record a command", func() error {
		err := d.Executions.Open(ctx, e)
		if errors.Is(err, ErrTooLarge) { // the server takes less than it said
			tooLarge, err = err, nil
		}
		return err
	})
	if ended != nil {
		return
	}
	if tooLarge != nil {
		r := Rejectf(CodeTooLarge, "the command can't be kept: %v", tooLarge)
		d.Commands.Answer(ctx, e.ID, response(statusRejected, result{Error: r.Reason}), e.Trace)
		m := Message{Address: mapping.Address{Thing: d.Commands.Thing, Channel: mapping.CommandRequest, ID: e.ID}, Payload: e.Payload, Received: e.Received, Trace: e.Trace}
		m.Origin = m.Address.Topic()
		if buryAndWait(ctx, d.Commands.Graveyard, Letter{Message: m, Direction: mapping.Down, Rejection: r}) == nil {
			settle()
		}
		return
	}
	settle()
	d.Commands.Start(ctx, e)
}

// refuse answers a command that won't run and returns why, for the dead letter.
func (d *Downward) refuse(ctx context.Context, m Message, status string, r *Rejection) error {
	action := gjson.GetBytes(m.Payload, "action").String()
	action = strings.ToValidUTF8(action[:min(len(action), mapping.MaxIDBytes)], "") // as long as one may be
	e := &Execution{ID: m.Address.ID, Action: action}
	payload := d.Commands.decided(e, status, r.Reason)
	if _, err := d.Commands.Outbox.Enqueue(ctx, d.Commands.address(m.Address.ID), payload, m.Trace); err != nil {
		return err
	}
	return r
}
