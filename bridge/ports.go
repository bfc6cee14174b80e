package bridge

import (
	"context"
	"errors"
	"time"

	"fleetbridge/mapping"
)

// What the core asks of the two edges, beside Lanes, views and State. Both are thin; the decisions are on this side.

var (
	ErrNotFound     = errors.New("not found")
	ErrExists       = errors.New("exists already")
	ErrNotConnected = errors.New("not connected to the broker")
	ErrNoHandler    = errors.New("nobody serves the command")
	// ErrTooLarge is permanent: NATS never takes a value of this size.
	ErrTooLarge = errors.New("larger than NATS takes")
)

// Link is a Thing's session with the cloud, as the core needs it besides Source and Sink.
type Link interface {
	// Ask sends a message that is worth nothing after a lost connection, ahead of telemetry. done is
	// called once: nil when the broker has it, ErrNotConnected when the link is or goes down first.
	Ask(ctx context.Context, m Message, done func(error)) error
}

// Call is one command for a local handler.
type Call struct {
	Thing     mapping.Thing
	Execution string
	Action    string
	Payload   []byte
	Deadline  time.Time
	Trace     Trace
}

// Reply is what a handler answered: a payload, or a service error.
type Reply struct {
	Payload          []byte
	ErrorCode, Error string // set for a service error
	Trace            Trace  // the handler's own; empty: the request's holds
}

// Handlers reaches the programs that serve commands.
type Handlers interface {
	// Listen opens the line of an execution. token is the execution's; it is random, and the same in every run
	// of the bridge, so that replies to the calls of an earlier run arrive, too.
	Listen(t mapping.Thing, token string) (Line, error)
}

// Line is where the calls of one execution are answered. Whatever is answered first counts.
type Line interface {
	// Call runs the command on one handler and waits for a reply until ctx ends; then the error may be an *Unanswered.
	// ErrNoHandler: nobody is subscribed now.
	Call(ctx context.Context, c Call) (Reply, error)
	// Wait waits for a reply to an earlier call until ctx ends.
	Wait(ctx context.Context) (Reply, error)
	Close()
}

// ShadowAPI is the Fleets HTTP API, as far as a gateway needs it.
type ShadowAPI interface {
	// Shadow fetches the document {reported, desired, delta, version, updatedAt}. ErrNotFound: the
	// Thing is not registered. Any other error: not reachable now; a *RetryLater says when to ask again.
	Shadow(ctx context.Context, t mapping.Thing) ([]byte, error)
}

// RetryLater is the error of a server that asks for a pause. A try before After has passed fails, too.
type RetryLater struct {
	After time.Duration
	Err   error
}

func (e *RetryLater) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *RetryLater) Unwrap() error { return e.Err }

// Observer counts. It must not block.
type Observer interface {
	Outcome(Fate)
}

// Fate is how a message ended; there is one for each, when it is settled.
type Fate struct {
	Direction mapping.Direction
	Channel   mapping.Channel // empty for a stray
	Outcome   Outcome
	Code      Code // of a dead letter
	Taken     time.Time
}

// Outcome is how a message ended.
type Outcome string

const (
	Delivered Outcome = "delivered"
	Duplicate Outcome = "duplicate"
	Dead      Outcome = "dead"
)

// Unanswered is the error of a call to which nobody replied in time.
type Unanswered struct {
	Heard string // who subscribes, in words; empty: not known
	Err   error
}

func (u *Unanswered) Error() string { return u.Err.Error() }
func (u *Unanswered) Unwrap() error { return u.Err }
