package fleetsim

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/tidwall/gjson"

	"fleetbridge/mapping"
)

// Command asks a Thing to do something.
type Command struct {
	Thing  string
	Action string
	Params json.RawMessage // sent as they are; nil: {}
	// TTL is when the execution becomes TIMED_OUT; the request tells it in whole seconds, rounded up.
	// 0: never, and the request has no ttl.
	TTL time.Duration
	// ID is the execution id; empty: a UUID. A used one is refused.
	ID string
	// Issued is the request's timestamp; zero: now. The TTL counts from now in any case.
	Issued time.Time
}

// States of a command execution.
const (
	Sent      = "SENT"
	Succeeded = "SUCCEEDED"
	Failed    = "FAILED"
	Rejected  = "REJECTED"
	TimedOut  = "TIMED_OUT"
	Canceled  = "CANCELED"
)

// CommandExecution is how far a command has come.
type CommandExecution struct {
	ID        string          `json:"id"` // the execution id
	CommandID string          `json:"commandId"`
	Thing     string          `json:"thingName"`
	Action    string          `json:"action"`
	Params    json.RawMessage `json:"params"`
	Status    string          `json:"status"`
	Result    json.RawMessage `json:"result,omitempty"`
	SentAt    time.Time       `json:"sentAt"`
	UpdatedAt time.Time       `json:"updatedAt"`
	// Responses are the payloads of all responses, late and repeated ones too; more than one is a
	// fault of the device. A redelivery of the same packet (DUP) does not count.
	Responses []json.RawMessage `json:"responses"`

	request []byte
	ttl     *time.Timer
}

// Final reports whether the status can change no more.
func (c CommandExecution) Final() bool { return c.Status != Sent }

// SendCommand publishes a request and returns the execution id. The execution fails at once when
// nobody is subscribed.
func (s *Sim) SendCommand(c Command) (string, error) {
	if c.Params == nil {
		c.Params = json.RawMessage("{}")
	}
	if c.ID == "" {
		c.ID = newUUID()
	}
	switch err := mapping.CheckID(c.ID); {
	case err != nil:
		return "", invalid("execution id: %v", err)
	case c.Action == "":
		return "", invalid("action is empty")
	case !gjson.ValidBytes(c.Params):
		return "", invalid("params is not JSON")
	case c.TTL < 0:
		return "", invalid("ttl %v is negative", c.TTL)
	}
	s.Lock()
	defer s.Unlock()
	t, err := s.thing(c.Thing)
	if err != nil {
		return "", err
	}
	if _, used := s.commands[c.ID]; used {
		return "", conflict("execution %s exists already", c.ID)
	}
	now := time.Now().UTC()
	e := &CommandExecution{ID: c.ID, CommandID: newUUID(), Thing: c.Thing, Action: c.Action, Params: c.Params, Status: Sent, SentAt: now, UpdatedAt: now, Responses: []json.RawMessage{}}
	if c.Issued.IsZero() {
		c.Issued = now
	}
	e.request = encode(struct {
		CommandID string          `json:"commandId"`
		Action    string          `json:"action"`
		Params    json.RawMessage `json:"params"`
		Timestamp int64           `json:"timestamp"`
		TTL       int64           `json:"ttl,omitempty"`
	}{e.CommandID, e.Action, e.Params, c.Issued.Unix(), int64((c.TTL + time.Second - 1) / time.Second)})
	s.commands[e.ID] = e
	if c.TTL > 0 {
		e.ttl = s.after(c.TTL, func() { s.finish(e, TimedOut, nil) })
	}
	s.log.Info("command", "thing", c.Thing, "action", c.Action, "execution", e.ID)
	s.request(t, e)
	s.notify()
	return e.ID, nil
}

func (s *Sim) request(t *thing, e *CommandExecution) {
	a := mapping.Address{Thing: mapping.Thing(t.Name), Channel: mapping.CommandRequest, ID: e.ID}
	s.send(outgoing{topic: a.Topic(), payload: e.request, unheard: func() {
		s.finish(e, Failed, json.RawMessage(`{"error":"no matching subscribers"}`))
	}})
}

// RepeatCommand sends a request once more, byte for byte, as a broker's redelivery would.
func (s *Sim) RepeatCommand(id string) error {
	s.Lock()
	defer s.Unlock()
	e, ok := s.commands[id]
	if !ok {
		return notFound("execution %s does not exist", id)
	}
	s.request(s.things[e.Thing], e)
	return nil
}

// CancelCommand ends an execution in the cloud. The device is not told: the protocol has no word
// for it.
func (s *Sim) CancelCommand(id string) error {
	s.Lock()
	defer s.Unlock()
	e, ok := s.commands[id]
	if !ok {
		return notFound("execution %s does not exist", id)
	}
	s.finish(e, Canceled, nil)
	s.notify()
	return nil
}

// finish ends an execution unless it has ended. The lock must be held.
func (s *Sim) finish(e *CommandExecution, status string, result json.RawMessage) {
	if e.Final() {
		return
	}
	s.forget(e.ttl)
	e.Status, e.Result, e.UpdatedAt = status, result, time.Now().UTC()
	s.log.Info("command ended", "thing", e.Thing, "action", e.Action, "execution", e.ID, "status", status)
}

// respond takes a device's response. The lock must be held.
func (s *Sim) respond(name, id string, doc gjson.Result, redelivered bool) error {
	status, result := member(doc, "status").String(), member(doc, "result")
	if !slices.Contains([]string{Succeeded, Failed, Rejected, TimedOut, Canceled}, status) {
		return invalid("status %q is not SUCCEEDED, FAILED, REJECTED, TIMED_OUT or CANCELED", status)
	}
	if result.Exists() && !result.IsObject() {
		return invalid("result is no object")
	}
	e, ok := s.commands[id]
	if !ok || e.Thing != name {
		return notFound("execution %s of thing %s does not exist", id, name)
	}
	payload := json.RawMessage(doc.Raw)
	known := slices.ContainsFunc(e.Responses, func(r json.RawMessage) bool { return bytes.Equal(r, payload) })
	if !redelivered || !known {
		e.Responses = append(e.Responses, payload)
	}
	if e.Final() {
		s.log.Info("response after the end", "thing", name, "execution", id, "status", status, "ended", e.Status)
	}
	s.finish(e, status, raw(result))
	s.notify()
	return nil
}

func (c *CommandExecution) copy() CommandExecution {
	out := *c
	out.Responses = slices.Clone(c.Responses)
	return out
}

// Command returns an execution.
func (s *Sim) Command(id string) (CommandExecution, error) {
	s.Lock()
	defer s.Unlock()
	e, ok := s.commands[id]
	if !ok {
		return CommandExecution{}, notFound("execution %s does not exist", id)
	}
	return e.copy(), nil
}

// WaitCommand returns an execution once it has ended.
func (s *Sim) WaitCommand(ctx context.Context, id string) (CommandExecution, error) {
	return await(ctx, &s.monitor, "the end of command execution "+id, func() (CommandExecution, bool) {
		e, ok := s.commands[id]
		if !ok || !e.Final() {
			return CommandExecution{}, false
		}
		return e.copy(), true
	})
}
