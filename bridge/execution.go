package bridge

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"fleetbridge/mapping"
)

// Executions remembers one Thing's command executions for as long as the broker could send a request
// again: which are open, and which response was the one. Both survive restarts.
type Executions struct {
	// MaxRecord is how many bytes a record may have, with its key; 0: no limit.
	MaxRecord int
	Retries   *Retries
	Room      *CommandRoom // nil: as many as come

	damage []error // records of the last run that can't be read, and were given up

	thing mapping.Thing
	state State

	mu   sync.Mutex
	open map[string]*Execution
	past []AnsweredCommand // the last ones of this run, the oldest first
	held int               // bytes of Room
	// Ids of those that were answered in this run, the oldest first; see bound.
	answers, unasked latest
}

// Execution is a command under way.
type Execution struct {
	ID       string    `json:"id"`
	Action   string    `json:"action"`
	Payload  []byte    `json:"-"`
	Received time.Time `json:"received"`
	Deadline time.Time `json:"deadline"`
	Trace    Trace     `json:"trace"`
	Reply    string    `json:"reply,omitempty"` // the token of its Line; empty: written by a version that had none
	// Called: a handler was called, or is about to be. Only where another bridge may take over; see CommandPolicy.Once.
	Called     bool          `json:"called,omitempty"`
	answered   chan struct{} // closed when a response was claimed
	left       bool          // a handler that an earlier run called may still be working on it
	line       Line
	unanswered bool      // the last call found a subscriber and no reply
	heard      string    // who that was, in words, if it is known
	called     time.Time // for the first time in this run
}

// Answered is closed as soon as somebody's response for the execution has been taken.
func (e *Execution) Answered() <-chan struct{} { return e.answered }

// hangUp ends its line, if there is one.
func (e *Execution) hangUp() {
	if e.line != nil {
		e.line.Close()
		e.line = nil
	}
}

// claim is the value of a done key: which message is the one response.
type claim struct {
	Sequence uint64 `json:"seq"` // in the stream of control messages
}

// LoadExecutions reads what the last run left open. A record that can't be read is given up, and damage says why: it
// expires by itself, and a command that is sent again overwrites it.
func LoadExecutions(ctx context.Context, t mapping.Thing, b State) (*Executions, []*Execution, error) {
	x := &Executions{thing: t, state: b, open: map[string]*Execution{}}
	var left []*Execution
	err := b.List(ctx, x.key("open", ""), func(key string, value []byte) error {
		e, err := parseExecution(value)
		if err == nil && (e.ID == "" || x.key("open", e.ID) != key || mapping.Token(e.Reply) != e.Reply) {
			err = errors.New("it is another one's, or nobody's")
		}
		if err != nil {
			x.damage = append(x.damage, fmt.Errorf("%s: %w", key, err))
			return nil
		}
		e.left = e.Reply != ""
		left = append(left, e)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	unanswered := left[:0]
	for _, e := range left {
		done, err := x.done(ctx, e.ID)
		if err == nil && done { // the last run ended before it could delete it
			err = b.Delete(ctx, x.key("open", e.ID))
		} else if err == nil {
			x.open[e.ID] = e
			unanswered = append(unanswered, e)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("execution %s: %w", e.ID, err)
		}
	}
	return x, unanswered, nil
}

func (x *Executions) key(kind, id string) string {
	prefix := kind + "." + mapping.Token(string(x.thing)) + "."
	if id == "" {
		return prefix
	}
	return prefix + mapping.Token(id)
}

// Seen reports whether the execution is known: then its request is a redelivery.
func (x *Executions) Seen(ctx context.Context, id string) (bool, error) {
	x.mu.Lock()
	_, open := x.open[id]
	x.mu.Unlock()
	if open {
		return true, nil
	}
	return x.done(ctx, id)
}

func (x *Executions) done(ctx context.Context, id string) (bool, error) {
	_, err := x.state.Get(ctx, x.key("done", id))
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Begin notes, in memory, that a request is being taken, so that a redelivery is recognised also before
// Open has ended. The error is a *Rejection when there is no room for one more.
func (x *Executions) Begin(e *Execution) error {
	e.answered, e.Reply = make(chan struct{}), rand.Text()
	if !x.Room.take(x.thing, e.cost()) {
		return Rejectf(CodeUnexpected, "more commands are under way than there is memory for; send it again when others have ended, or raise limits.memory")
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.open[e.ID] = e
	x.held += e.cost()
	return nil
}

// enter charges Room with what the last run left open. leave gives back what is still open.
func (x *Executions) enter() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.open {
		x.held += e.cost()
	}
	x.Room.add(x.thing, x.held)
}

func (x *Executions) leave() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.Room.add(x.thing, -x.held)
	x.held, x.Room = 0, nil
}

// Open makes a begun execution durable, unless it was answered meanwhile.
func (x *Executions) Open(ctx context.Context, e *Execution) error {
	value, err := e.print()
	if err != nil {
		return err
	}
	if err := x.state.Put(ctx, x.key("open", e.ID), value); err != nil {
		return err
	}
	select {
	case <-e.answered:
		return x.state.Delete(ctx, x.key("open", e.ID))
	default:
		return nil
	}
}

// Note makes it durable whether a handler is called, unless the execution was answered meanwhile.
func (x *Executions) Note(ctx context.Context, e *Execution, called bool) error {
	was := e.Called
	e.Called = called
	err := x.Open(ctx, e)
	if err != nil {
		e.Called = was
	}
	return err
}

// Claim makes the message with this sequence the execution's one response. mine is false when another message is. Asking
// again for the same message, after a restart, gives the same answer. The message can be sent at once: its lane has it, and
// would bring it again before every other response. But it must not be settled before durable is closed; nil: it can be.
func (x *Executions) Claim(ctx context.Context, id string, sequence uint64) (mine bool, durable <-chan struct{}, err error) {
	value, err := json.Marshal(claim{sequence})
	if err != nil {
		return false, nil, err
	}
	key, soon := x.key("done", id), make(chan error, 1)
	prompt, isPrompt := x.state.(Prompt)
	if isPrompt {
		gone := ""
		if x.isOpen(id) {
			gone = x.key("open", id)
		}
		err = prompt.CreateSoon(ctx, Record{key, value}, gone, func(err error) { soon <- err })
	} else {
		err = x.state.Create(ctx, key, value)
	}
	mine, made := true, true
	switch {
	case errors.Is(err, ErrExists):
		made = false
		if mine, err = x.Claimed(ctx, id, sequence); err != nil {
			return false, nil, err
		}
	case err != nil:
		return false, nil, err
	}
	asked := x.answered(id)
	if made {
		x.bound(ctx, id, asked)
	}
	if made && isPrompt {
		written := make(chan struct{})
		go x.claimed(ctx, id, value, soon, written)
		return mine, written, nil
	}
	if asked {
		go x.forget(ctx, id) // nobody waits for this: the claim is enough
	}
	return mine, nil, nil
}

// claimed sees to it that a claim becomes durable, and closes written then. If ctx ends before, the next run gets the
// response again, and claims it.
func (x *Executions) claimed(ctx context.Context, id string, value []byte, soon <-chan error, written chan struct{}) {
	if err := <-soon; err != nil {
		again := func() error {
			if err := x.state.Put(ctx, x.key("done", id), value); err != nil {
				return err
			}
			return x.state.Delete(ctx, x.key("open", id))
		}
		if x.Retries.Until(ctx, x.thing, "to record which response was sent", again) != nil {
			return
		}
	}
	close(written)
}

func (x *Executions) isOpen(id string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.open[id] != nil
}

// Claimed reports whether the message with this sequence was made the execution's one response. ErrNotFound: none
// was. What can't be read was another one: two responses would be worse than none.
func (x *Executions) Claimed(ctx context.Context, id string, sequence uint64) (bool, error) {
	value, err := x.state.Get(ctx, x.key("done", id))
	if err != nil {
		return false, err
	}
	var c claim
	return json.Unmarshal(value, &c) == nil && c.Sequence == sequence, nil
}

// answered ends an execution, and reports whether it was open.
func (x *Executions) answered(id string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.open[id]
	if e == nil {
		return false
	}
	delete(x.open, id)
	if x.Room != nil {
		x.held -= e.cost()
		x.Room.add(x.thing, -e.cost())
	}
	close(e.answered)
	return true
}

// Fits refuses an execution whose record would be larger than State takes.
func (x *Executions) Fits(e *Execution) error {
	value, err := e.print()
	if err != nil {
		return err
	}
	if n := len(value) + len(x.key("open", e.ID)) + recordRoom; x.MaxRecord > 0 && n > x.MaxRecord {
		return Rejectf(CodeTooLarge, "the command has %d bytes with what is kept of it, and NATS takes %d; raise max_payload of the NATS server", n, x.MaxRecord)
	}
	return nil
}

// print makes the record: what is known of the execution on one line, and then the request as it came.
func (e *Execution) print() ([]byte, error) {
	line, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return append(append(line, '\n'), e.Payload...), nil
}

// parseExecution reads a record; those of an earlier version have the request in base64 within the line.
func parseExecution(record []byte) (*Execution, error) {
	line, payload, split := bytes.Cut(record, []byte("\n"))
	e := &Execution{Payload: payload, answered: make(chan struct{})}
	if err := json.Unmarshal(line, e); err != nil {
		return nil, err
	}
	if !split {
		var old struct {
			Payload []byte `json:"payload"`
		}
		if err := json.Unmarshal(line, &old); err != nil {
			return nil, err
		}
		e.Payload = old.Payload
	}
	return e, nil
}

// forget removes the record of an execution that was open. If ctx ends before, the next run does.
func (x *Executions) forget(ctx context.Context, id string) {
	_ = x.Retries.Until(ctx, x.thing, "to forget a command that was answered", func() error { return x.state.Delete(ctx, x.key("open", id)) })
}
