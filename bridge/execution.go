package bridge

import (
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
	thing  mapping.Thing
	bucket Bucket

	mu   sync.Mutex
	open map[string]*Execution
}

// Execution is a command under way.
type Execution struct {
	ID       string        `json:"id"`
	Action   string        `json:"action"`
	Payload  []byte        `json:"payload"`
	Received time.Time     `json:"received"`
	Deadline time.Time     `json:"deadline"`
	Trace    Trace         `json:"trace"`
	Reply    string        `json:"reply,omitempty"` // the token of its Line; empty: of a version that had none
	answered chan struct{} // closed when a response was claimed
	left     bool          // a handler of an earlier run may be at it
	line     Line
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

// LoadExecutions reads what the last run left open.
func LoadExecutions(ctx context.Context, t mapping.Thing, b Bucket) (*Executions, []*Execution, error) {
	x := &Executions{thing: t, bucket: b, open: map[string]*Execution{}}
	var left []*Execution
	err := b.List(ctx, x.key("open", ""), func(key string, value []byte) error {
		e := &Execution{answered: make(chan struct{})}
		if err := json.Unmarshal(value, e); err != nil {
			return fmt.Errorf("execution %s is damaged, delete its key to go on without it: %w", key, err)
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
		if err == nil && done { // the last run did not get round to it
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

func (x *Executions) key(state, id string) string {
	prefix := state + "." + mapping.Token(string(x.thing)) + "."
	if id == "" {
		return prefix
	}
	return prefix + mapping.Token(id)
}

// Seen tells whether the execution is known: then its request is a redelivery.
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
	_, err := x.bucket.Get(ctx, x.key("done", id))
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Begin notes, in memory, that a request is being taken, so that a redelivery which comes before
// Open has ended is known as one.
func (x *Executions) Begin(e *Execution) {
	e.answered, e.Reply = make(chan struct{}), rand.Text()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.open[e.ID] = e
}

// Open makes a begun execution durable, unless it was answered meanwhile.
func (x *Executions) Open(ctx context.Context, e *Execution) error {
	value, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := x.bucket.Put(ctx, x.key("open", e.ID), value); err != nil {
		return err
	}
	select {
	case <-e.answered:
		return x.bucket.Delete(ctx, x.key("open", e.ID))
	default:
		return nil
	}
}

// Claim makes the message with this sequence the execution's one response. It is false when another
// message is. Asking again for the same message, after a restart, gives the same answer.
func (x *Executions) Claim(ctx context.Context, id string, sequence uint64) (bool, error) {
	value, err := json.Marshal(claim{sequence})
	if err != nil {
		return false, err
	}
	mine := true
	switch err := x.bucket.Create(ctx, x.key("done", id), value); {
	case errors.Is(err, ErrExists):
		if mine, err = x.Claimed(ctx, id, sequence); err != nil {
			return false, err
		}
	case err != nil:
		return false, err
	}
	if x.answered(id) {
		go x.forget(ctx, id) // nobody waits for it: the claim says it all
	}
	return mine, nil
}

// Claimed tells whether the message with this sequence was made the execution's one response. ErrNotFound: none
// was.
func (x *Executions) Claimed(ctx context.Context, id string, sequence uint64) (bool, error) {
	value, err := x.bucket.Get(ctx, x.key("done", id))
	if err != nil {
		return false, err
	}
	var c claim
	if err := json.Unmarshal(value, &c); err != nil {
		return false, fmt.Errorf("execution %s: the record of its response is damaged: %w", id, err)
	}
	return c.Sequence == sequence, nil
}

// answered ends an execution, and tells whether it was open.
func (x *Executions) answered(id string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.open[id]
	if e == nil {
		return false
	}
	delete(x.open, id)
	close(e.answered)
	return true
}

// forget removes the record of an execution that was open. If ctx ends before, the next run does.
func (x *Executions) forget(ctx context.Context, id string) {
	_ = insist(ctx, func() error { return x.bucket.Delete(ctx, x.key("open", id)) })
}
