package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"fleetbridge/mapping"
	"fleetbridge/schemas"
)

// Requests answers the `req` subjects of all Things.
type Requests struct {
	Things  map[mapping.Thing]*Desk
	Timeout time.Duration
	Watch   *Watch       // nil: nobody looks
	Log     *slog.Logger // nil: it says nothing
}

// Desk answers the requests for one Thing.
type Desk struct {
	Thing    mapping.Thing
	Catalog  *schemas.Catalog
	Own      *schemas.ThingSchemas
	Exchange *Exchange
	Leases   *Leases
	Outbox   Outbox
	Shadow   *Shadow
	// Down and Graveyard take answers whose askers are gone.
	Down      Sink
	Graveyard Graveyard
	API       ShadowAPI // nil: none is configured
	Retries   *Retries

	overruns *overruns
}

// HeaderStale marks a shadow document that is the last known one, not the cloud's word of now.
const HeaderStale = "Fleets-Stale"

// Handle implements RequestHandler.
func (r *Requests) Handle(ctx context.Context, q Request) (Response, error) {
	desk, ok := r.Things[q.Thing]
	if !ok {
		return Response{}, &RequestError{Code: StatusUnknownThing, Message: fmt.Sprintf("thing %q is not configured here: add it to things", q.Thing)}
	}
	timeout := r.Timeout
	if q.Timeout > 0 && q.Timeout < timeout {
		timeout = q.Timeout
	}
	r.hop("request taken", q, nil)
	began := time.Now()
	answer, err := desk.handle(ctx, timeout, q)
	rejected := (*Rejection)(nil)
	switch {
	case errors.Is(err, ErrNotConnected):
		err = &RequestError{Code: StatusOffline, Message: fmt.Sprintf("thing %q is not connected to the broker", q.Thing)}
	case errors.As(err, &rejected):
		err = refusedQuestion(rejected)
	case errors.Is(err, context.Canceled):
		err = &RequestError{Code: StatusOffline, Message: "the bridge is stopping"}
	case errors.Is(err, context.DeadlineExceeded):
		err = &RequestError{Code: StatusNoAnswer, Message: fmt.Sprintf("no answer from the cloud within %s", timeout)}
	}
	r.hop("request answered", q, err)
	if r.Watch.on() {
		r.saw(q, answer, err, time.Since(began))
	}
	return answer, err
}

// hop logs at debug what became of a request, without its payload.
func (r *Requests) hop(what string, q Request, err error) {
	if r.Log == nil || !r.Log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	channel, code := string(q.Address.Channel), 0
	if q.ShadowGet {
		channel = string(ShadowGet)
	}
	if refused := (*RequestError)(nil); errors.As(err, &refused) {
		code = refused.Code
	}
	r.Log.Debug(what, "thing", string(q.Thing), "channel", channel, "id", q.Address.ID, "bytes", len(q.Payload), "code", code)
}

// saw shows viewers how a request was answered, with the payload of the question or, if it has none, of the answer.
func (r *Requests) saw(q Request, answer Response, err error, took time.Duration) {
	s := Sighting{Took: took, Outcome: Answered, Direction: mapping.Up, Address: q.Address, Payload: q.Payload, Trace: q.Trace}
	if s.Address.Thing = q.Thing; q.ShadowGet {
		s.Address.Channel = ShadowGet
	}
	if len(s.Payload) == 0 {
		s.Payload = answer.Payload
	}
	if err != nil {
		s.Code, s.Reason = "500", err.Error() // as the edge answers what is no RequestError
		if refused := (*RequestError)(nil); errors.As(err, &refused) {
			s.Code = strconv.Itoa(refused.Code)
		}
	}
	r.Watch.tell(s)
}

// handle answers within timeout. Only to store what follows from the cloud's answer (a lease) it may take longer, because
// the caller must not get the answer before that.
func (d *Desk) handle(work context.Context, timeout time.Duration, q Request) (Response, error) {
	ctx, cancel := context.WithTimeout(work, timeout)
	defer cancel()
	if q.ShadowGet {
		return d.shadow(ctx)
	}
	payload := q.Payload
	asks := q.Address.Route().Accepted != ""
	if asks && len(payload) == 0 {
		payload = []byte("{}")
	}
	if err := check(ctx, d.Catalog, d.Own, Message{Address: q.Address, Payload: payload}); err != nil {
		d.overruns.note(q.Address, err)
		if r := (*Rejection)(nil); errors.As(err, &r) {
			err = &RequestError{Code: StatusBadRequest, Message: r.Reason, Details: r.Details}
		}
		return Response{}, err
	}
	if !asks {
		receipt, err := d.Outbox.Enqueue(ctx, q.Address, payload, q.Trace)
		if err != nil {
			return Response{}, &RequestError{Code: StatusOffline, Message: fmt.Sprintf("the gateway can't store it now, try again: %v", err)}
		}
		body, err := json.Marshal(receipt)
		return Response{Payload: body}, err
	}
	if err := d.mayUpdate(ctx, q); err != nil {
		return Response{}, err
	}
	m, err := d.Exchange.Ask(ctx, q.Address, payload, q.Trace)
	if err != nil {
		return Response{}, err
	}
	decide := d.accepted
	if m.Address.Channel == q.Address.Route().Rejected {
		decide = d.rejected
	}
	out, err := decide(work, q, payload, m.Payload)
	out.Trace = m.Trace
	giveBack := out.Unheard
	out.Unheard = func(ctx context.Context) {
		if giveBack != nil {
			giveBack(ctx)
		}
		d.publish(ctx, m)
	}
	return out, err
}

// publish stores an answer on its down subject, because the program that asked is gone.
func (d *Desk) publish(ctx context.Context, m Message) {
	stored := make(chan error, 1)
	if d.Down.Send(ctx, m, func(err error) { stored <- err }) != nil {
		return
	}
	select {
	case err := <-stored:
		if r := (*Rejection)(nil); errors.As(err, &r) { // larger than NATS takes
			_ = buryAndWait(ctx, d.Graveyard, Letter{Message: m, Direction: mapping.Down, Rejection: r})
		}
	case <-ctx.Done():
	}
}

// mayUpdate refuses an update of an execution that another worker has.
func (d *Desk) mayUpdate(ctx context.Context, q Request) error {
	if q.Address.Channel != mapping.JobUpdate || q.Worker == "" {
		return nil
	}
	lease, held, err := d.Leases.Holder(ctx, q.Address.ID)
	if err != nil || !held || lease.Worker == q.Worker {
		return err
	}
	return leasedTo(q.Address.ID, lease.Worker)
}

func leasedTo(job, worker string) error {
	return &RequestError{Code: StatusConflict, Message: fmt.Sprintf("job %q is leased to worker %q until its final update", job, worker)}
}

func (d *Desk) accepted(ctx context.Context, q Request, sent, answer []byte) (Response, error) {
	switch q.Address.Channel {
	case mapping.JobsStartNext:
		job, number := execution(answer)
		if job == "" {
			break
		}
		hold, err := d.Leases.Take(ctx, job, Lease{Worker: q.Worker, Execution: number})
		if err != nil {
			return Response{}, err
		}
		if hold.Worker != q.Worker {
			return Response{}, leasedTo(job, hold.Worker)
		}
		return Response{Payload: answer, Unheard: func(ctx context.Context) {
			_ = d.Retries.Until(ctx, d.Thing, "to give a lease back", func() error { return d.Leases.GiveBack(ctx, job, hold) })
		}}, nil
	case mapping.JobUpdate:
		if err := d.release(ctx, q, sent); err != nil {
			return Response{}, err
		}
	}
	return Response{Payload: answer}, nil
}

func (d *Desk) release(ctx context.Context, q Request, sent []byte) error {
	if !finalStatus(gjson.GetBytes(sent, "status").String()) {
		return nil
	}
	return d.Leases.Release(ctx, q.Address.ID)
}

// rejected reads the cloud's refusal leniently: its shape is documented nowhere.
func (d *Desk) rejected(ctx context.Context, q Request, sent, answer []byte) (Response, error) {
	body := gjson.ParseBytes(answer)
	code := body.Get("code").String()
	if q.Address.Channel == mapping.JobUpdate {
		state := body.Get("executionState")
		if code == "VersionMismatch" && sameState(state, gjson.ParseBytes(sent)) {
			// The first try worked and its answer was lost: the caller has what it wants.
			return Response{Payload: without(answer, "code", "message")}, d.release(ctx, q, sent)
		}
		if code == "TerminalStateReached" || code == "InvalidStateTransition" || code == "ResourceNotFound" ||
			terminal(state.Get("status").String()) {
			if err := d.Leases.Release(ctx, q.Address.ID); err != nil {
				return Response{}, err
			}
		}
	}
	return Response{}, refusal(body)
}

// refusedQuestion is the error for a question that was refused on its way to the cloud.
func refusedQuestion(r *Rejection) *RequestError {
	out := &RequestError{Code: StatusCloudRefused, Message: r.Reason, Details: r.Details}
	switch r.Code {
	case CodeTooLarge:
		out.Code = StatusBadRequest
	case CodeExpired:
		out.Code = StatusNoAnswer
	}
	return out
}

func refusal(body gjson.Result) *RequestError {
	code := body.Get("code").String()
	if code == "" {
		code = body.Get("status").String()
	}
	text := ""
	for _, member := range []string{"message", "detail", "title", "error"} {
		if v := body.Get(member); v.Type == gjson.String && v.Str != "" {
			text = v.Str
			break
		}
	}
	out := &RequestError{Code: StatusCloudRefused, Message: code}
	if code == "VersionMismatch" || code == strconv.Itoa(StatusConflict) {
		out.Code = StatusConflict
	}
	switch {
	case code == "" && text == "":
		out.Message = "the cloud rejected it without a reason"
	case code == "":
		out.Message = text
	case text != "":
		out.Message = code + ": " + text
	}
	return out
}

// without takes members out of an object.
func without(object []byte, members ...string) []byte {
	for _, member := range members {
		if out, err := sjson.DeleteBytes(object, member); err == nil {
			object = out
		}
	}
	return object
}

// terminal reports whether an execution in this state never changes again.
func terminal(status string) bool {
	switch status {
	case "SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED", "REMOVED":
		return true
	}
	return false
}

// sameState reports whether an execution's state already is what an update asked for. For progress the details must be
// equal, too; for a final status the status is enough. If the version is not beyond the expected one, this update has not
// made it.
func sameState(state, sent gjson.Result) bool {
	if !state.Exists() || state.Get("status").String() != sent.Get("status").String() {
		return false
	}
	expected, actual := sent.Get("expectedVersion"), state.Get("versionNumber")
	if expected.Exists() && actual.Exists() && actual.Int() <= expected.Int() {
		return false
	}
	details := sent.Get("statusDetails")
	if !details.Exists() || !state.Get("statusDetails").Exists() {
		return !details.Exists() || finalStatus(sent.Get("status").String())
	}
	return equalJSON(details, state.Get("statusDetails"))
}

// equalJSON compares two JSON values, member order aside; numbers compare as written.
func equalJSON(a, b gjson.Result) bool {
	if a.Type != b.Type || a.IsObject() != b.IsObject() || a.IsArray() != b.IsArray() {
		return false
	}
	switch {
	case a.IsArray():
		x, y := a.Array(), b.Array()
		for i := range x {
			if len(x) != len(y) || !equalJSON(x[i], y[i]) {
				return false
			}
		}
		return len(x) == len(y)
	case a.IsObject():
		x, y := a.Map(), b.Map()
		for k := range x {
			if v, ok := y[k]; !ok || !equalJSON(x[k], v) {
				return false
			}
		}
		return len(x) == len(y)
	case a.Type == gjson.Number:
		return a.Raw == b.Raw
	default:
		return a.String() == b.String()
	}
}

// shadow asks the HTTP API, and falls back on the last known document. A document that the API returns becomes that.
func (d *Desk) shadow(ctx context.Context) (Response, error) {
	var err error
	if d.API != nil {
		var question Question
		var doc []byte
		question, doc, err = fetcher{d.Thing, d.API, d.Catalog, d.Shadow}.ask(ctx)
		if err == nil {
			err = d.Shadow.Learn(question, doc)
		}
		if err == nil {
			d.keep(ctx)
			return Response{Payload: doc}, nil
		}
		if errors.Is(err, ErrNotFound) {
			return Response{}, &RequestError{Code: StatusUnknownThing, Message: err.Error()}
		}
	}
	if d.Shadow.Known() {
		return Response{Payload: d.Shadow.Document(), Header: map[string]string{HeaderStale: "true"}}, nil
	}
	if err == nil {
		err = errors.New("fleets.url is not configured and nothing has arrived yet")
	}
	return Response{}, &RequestError{Code: StatusOffline, Message: fmt.Sprintf("the shadow of %q is unknown: %v", d.Thing, err)}
}

// keep waits until the document is durable, but at most a second, because the program waits for its answer.
func (d *Desk) keep(ctx context.Context) {
	saved := make(chan struct{})
	d.Shadow.Save(context.WithoutCancel(ctx), func() { close(saved) })
	late := time.NewTimer(time.Second)
	defer late.Stop()
	select {
	case <-saved:
	case <-late.C:
	case <-ctx.Done():
	}
}
