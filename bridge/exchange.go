package bridge

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"fleetbridge/mapping"
)

// Exchange asks the cloud on behalf of many callers over one identity: it gives every question a token
// of its own, and every answer to the one caller who waits for it. One question of a kind is on the
// wire at a time, so an answer that comes without a token still finds its caller.
type Exchange struct {
	thing mapping.Thing
	link  Link
	// instance makes the tokens of two runs differ.
	instance string

	mu      sync.Mutex
	counter uint64
	turns   map[asked]*turn
	late    map[string]lateToken

	// Heard, when set, is called with the question's channel at each answer, whoever it is for. It must not block.
	Heard func(question mapping.Channel)
}

// asked is what can be asked once at a time: jobs.get and jobs.start-next of the Thing, the others of each job.
type asked struct {
	question mapping.Channel
	id       string
}

// turn is who may ask now, and how many want to.
type turn struct {
	slot    chan struct{} // a semaphore for one
	wanted  int
	waiting *waiter
}

type waiter struct {
	token  string
	caller gjson.Result // the caller's token, as it was written
	answer chan Message // buffer of one; filled under the exchange's lock
}

// lateToken remembers for a while whose token an unanswered question had.
type lateToken struct {
	caller gjson.Result
	until  time.Time
}

const (
	lateFor = 10 * time.Minute
	lateMax = 1024
)

// NewExchange prepares the questions of one Thing. instance is up to 32 characters that no other run
// of a bridge uses.
func NewExchange(t mapping.Thing, l Link, instance string) *Exchange {
	return &Exchange{thing: t, link: l, instance: instance, turns: map[asked]*turn{}, late: map[string]lateToken{}}
}

// Ask sends a question, {} if payload is empty, and waits for the answer until ctx ends. thingName and
// clientToken are filled in; the answer carries the caller's token again, or none. ErrNotConnected: the
// link is down.
func (x *Exchange) Ask(ctx context.Context, a mapping.Address, payload []byte, t Trace) (Message, error) {
	w := &waiter{answer: make(chan Message, 1), caller: gjson.GetBytes(payload, "clientToken")}
	release, err := x.enter(ctx, asked{a.Channel, a.ID}, w)
	if err != nil {
		return Message{}, err
	}
	wire, err := x.wire(payload, w.token)
	if err != nil {
		release()
		return Message{}, err
	}
	failed := make(chan error, 1)
	err = x.link.Ask(ctx, Message{Address: a, Payload: wire, Trace: t, Received: time.Now()}, func(err error) {
		if err != nil {
			failed <- err
		}
	})
	if err == nil {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case err = <-failed:
		case m := <-w.answer:
			release()
			return m, nil
		}
	}
	release()
	select { // it may have come just now
	case m := <-w.answer:
		return m, nil
	default:
		return Message{}, err
	}
}

// Tell sends a question whose answer is for everybody: it is published on its down subject.
func (x *Exchange) Tell(ctx context.Context, a mapping.Address, done func(error)) error {
	wire, err := x.wire(nil, x.token())
	if err != nil {
		return err
	}
	return x.link.Ask(ctx, Message{Address: a, Payload: wire, Received: time.Now()}, done)
}

// enter waits for the turn to ask q and makes w its waiter. release ends both.
func (x *Exchange) enter(ctx context.Context, q asked, w *waiter) (release func(), err error) {
	x.mu.Lock()
	t := x.turns[q]
	if t == nil {
		t = &turn{slot: make(chan struct{}, 1)}
		x.turns[q] = t
	}
	t.wanted++
	x.mu.Unlock()
	leave := func() {
		if t.wanted--; t.wanted == 0 {
			delete(x.turns, q)
		}
	}
	select {
	case t.slot <- struct{}{}:
	case <-ctx.Done():
		x.mu.Lock()
		defer x.mu.Unlock()
		leave()
		return nil, ctx.Err()
	}
	w.token = x.token()
	x.mu.Lock()
	defer x.mu.Unlock()
	t.waiting = w
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if t.waiting == w { // unanswered
			t.waiting = nil
			x.remember(w)
		}
		<-t.slot
		leave()
	}, nil
}

// remember keeps the caller's token for an answer that comes too late. The caller holds the lock.
func (x *Exchange) remember(w *waiter) {
	now := time.Now()
	for token, l := range x.late {
		if len(x.late) >= lateMax || now.After(l.until) {
			delete(x.late, token)
		}
	}
	x.late[w.token] = lateToken{w.caller, now.Add(lateFor)}
}

func (x *Exchange) token() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.counter++
	return fmt.Sprintf("fb-%s-%d", x.instance, x.counter)
}

func (x *Exchange) wire(payload []byte, token string) ([]byte, error) {
	if len(payload) == 0 {
		payload = []byte("{}")
	}
	if !gjson.GetBytes(payload, "thingName").Exists() {
		var err error
		if payload, err = sjson.SetBytes(payload, "thingName", string(x.thing)); err != nil {
			return nil, fmt.Errorf("filling in thingName: %w", err)
		}
	}
	out, err := sjson.SetBytes(payload, "clientToken", token)
	if err != nil {
		return nil, fmt.Errorf("filling in clientToken: %w", err)
	}
	return out, nil
}

// Answer hands an accepted or rejected message to the caller who asked. If nobody waits for it, taken is false: the message
// is for everybody. If its caller has given up, it has that caller's token again.
func (x *Exchange) Answer(m Message) (out Message, taken bool) {
	token := gjson.GetBytes(m.Payload, "clientToken")
	if x.Heard != nil {
		x.Heard(question(m.Address.Channel))
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if t := x.turns[asked{question(m.Address.Channel), m.Address.ID}]; t != nil && t.waiting != nil {
		w := t.waiting
		if !token.Exists() || token.Type == gjson.Null || token.String() == w.token {
			t.waiting = nil
			m.Payload = restore(m.Payload, w.caller)
			w.answer <- m
			return m, true
		}
	}
	if l, ok := x.late[token.String()]; ok {
		delete(x.late, token.String())
		m.Payload = restore(m.Payload, l.caller)
	}
	return m, false
}

// question finds the channel that an answer's channel belongs to.
func question(answer mapping.Channel) mapping.Channel {
	for _, r := range questions {
		if r.Accepted == answer || r.Rejected == answer {
			return r.Channel
		}
	}
	return ""
}

var questions = func() (out []mapping.Route) {
	for _, r := range mapping.Routes() {
		if r.Accepted != "" {
			out = append(out, r)
		}
	}
	return out
}()

// restore puts the caller's token back, or takes ours out.
func restore(payload []byte, caller gjson.Result) []byte {
	var out []byte
	var err error
	switch {
	case caller.Exists():
		out, err = sjson.SetRawBytes(payload, "clientToken", []byte(caller.Raw))
	case gjson.GetBytes(payload, "clientToken").Exists():
		out, err = sjson.DeleteBytes(payload, "clientToken")
	default:
		return payload
	}
	if err != nil {
		return payload // not an object: there was no token in it either
	}
	return out
}
