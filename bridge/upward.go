package bridge

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// Upward decides what becomes of one Thing's messages on their way to the cloud.
type Upward struct {
	Catalog    *schemas.Catalog
	Own        *schemas.ThingSchemas // nil: the Thing brings none
	MaxBytes   int
	MaxAge     time.Duration // older messages are given up, into the dead letters; 0: never
	Shadow     *Shadow
	Events     *EventClock
	Executions *Executions
	Leases     *Leases
	// Now is the clock by which stored questions expire.
	Now func() time.Time
	Log *slog.Logger

	overruns *overruns

	odd map[string]bool // event types whose timestamps in seconds were logged
}

// oddTypes bounds what is logged of one Thing's events.
const oddTypes = 100

// Decide checks a message and gives it its final form.
func (u *Upward) Decide(ctx context.Context, d Delivery) (Decision, error) {
	if d.Err != nil {
		return Decision{}, d.Err
	}
	m := d.Message
	if err := check(ctx, u.Catalog, u.Own, m); err != nil {
		u.overruns.note(m.Address, err)
		return Decision{}, err
	}
	limit := m.Address.Route().Expiry
	if limit == 0 {
		limit = u.MaxAge
	}
	if limit > 0 && m.Received.After(clockFloor) {
		if age := u.Now().Sub(m.Received); age > limit {
			if m.Address.Channel == mapping.CommandResponse { // if an earlier run has claimed it, it must be sent
				if one, err := u.Executions.Claimed(ctx, m.Address.ID, m.Sequence); one || err != nil && !errors.Is(err, ErrNotFound) {
					return forward(m), err
				}
			}
			return Decision{}, Rejectf(CodeExpired, "it waited %s for a connection, at most %s is of use; send it again if it still is", age.Round(time.Second), limit)
		}
		m.Expires = m.Received.Add(limit) // so the sink gives it up in time
	}
	switch m.Address.Channel {
	case mapping.ShadowReport:
		return u.report(ctx, m)
	case mapping.Event:
		return u.event(ctx, m)
	case mapping.CommandResponse:
		return u.response(ctx, m)
	case mapping.JobUpdate:
		return u.jobUpdate(ctx, m)
	default:
		return forward(m), nil
	}
}

// report makes the message the whole reported state. It is settled only when that state is durable, because the next
// report builds on it. A merged report never expires, because a null in it is sent only once.
func (u *Upward) report(ctx context.Context, m Message) (Decision, error) {
	if err := u.Shadow.AwaitBase(ctx); err != nil {
		return Decision{}, err
	}
	r, err := u.Shadow.Report(m.Payload, u.MaxBytes)
	if err != nil {
		return Decision{}, err
	}
	u.Shadow.Save(ctx, nil)
	m.Payload = r.Payload()
	if u.Shadow.cfg.Merged {
		m.Expires, m.Again = time.Time{}, r.Again
	}
	d := forward(m)
	d.Finish = func(settle func()) {
		r.Taken()
		u.Shadow.Save(ctx, settle)
	}
	d.Refused = func(ctx context.Context, _ *Rejection) *Message {
		if !r.Refused() {
			u.Shadow.Save(ctx, nil)
			return nil
		}
		m := m
		m.Payload = r.Payload()
		return &m
	}
	return d, nil
}

// event fills in the timestamp, without which Fleets would take the time of its own arrival there.
func (u *Upward) event(ctx context.Context, m Message) (Decision, error) {
	if v := gjson.GetBytes(m.Payload, "timestamp"); v.Exists() {
		if schemas.LooksLikeSeconds(v) {
			u.warnOfSeconds(m)
		}
		return forward(m), nil
	}
	ms, keep := u.Events.Stamp(m, u.Now())
	stamped, err := sjson.SetBytes(m.Payload, "timestamp", ms)
	if err != nil {
		return Decision{}, Rejectf(CodeJSON, "filling in the timestamp: %v", err)
	}
	m.Payload = stamped
	d := forward(m)
	if keep {
		d.Finish = func(settle func()) { u.Events.Save(ctx, ms, settle) }
	}
	return d, nil
}

// warnOfSeconds warns once for each type. Such an event is sent, but for Fleets it is from 1970.
func (u *Upward) warnOfSeconds(m Message) {
	if u.odd[m.Address.ID] || len(u.odd) >= oddTypes {
		return
	}
	if u.odd == nil {
		u.odd = map[string]bool{}
	}
	u.odd[m.Address.ID] = true
	u.Log.Warn("an event's timestamp looks like seconds; it is sent as it is, but Fleets takes milliseconds", "type", m.Address.ID)
}

// response lets only the first message of an execution through. It never expires, because no other one will be sent.
func (u *Upward) response(ctx context.Context, m Message) (Decision, error) {
	action := u.Executions.action(m.Address.ID)
	first, durable, err := u.Executions.Claim(ctx, m.Address.ID, m.Sequence)
	if err != nil {
		return Decision{}, err
	}
	if !first {
		return drop(Duplicate), nil
	}
	u.Executions.remember(AnsweredCommand{m.Address.ID, action, gjson.GetBytes(m.Payload, "status").String(), u.Now().UTC()})
	m.Expires = time.Time{}
	d := forward(m)
	if durable != nil {
		d.Finish = func(settle func()) { after(ctx, durable, settle) }
	}
	return d, nil
}

// after calls f when something is over, or never if ctx ends first.
func after(ctx context.Context, over <-chan struct{}, f func()) {
	if closed(over) {
		f()
		return
	}
	go func() {
		select {
		case <-over:
			f()
		case <-ctx.Done():
		}
	}()
}

// jobUpdate ends the lease when a program ends its job on the up subject.
func (u *Upward) jobUpdate(ctx context.Context, m Message) (Decision, error) {
	if finalStatus(gjson.GetBytes(m.Payload, "status").String()) {
		if err := u.Leases.Release(ctx, m.Address.ID); err != nil {
			return Decision{}, err
		}
	}
	return forward(m), nil
}
