package bridge

import (
	"context"

	"fleetbridge/mapping"
)

// Views are what programs see of what the bridge knows. Each is written by the bridge alone. The package porttest asks
// each implementation for what is promised here.

// Archive is the view of what the cloud sent: what can still be replayed. Its Sink stores what programs see, live and
// later, in the order of Send. What NATS will never take is a *Rejection with CodeTooLarge, and what is sent behind it
// goes on.
type Archive interface {
	// Last returns the newest stored message of an address, or ErrNotFound. What was stored before Last was called
	// counts, also when it was before a kill.
	Last(ctx context.Context, a mapping.Address) (Message, error)
}

// Record is a change of State.
type Record struct {
	Key   string
	Value []byte // nobody writes into it any more
}

// Keeper is a Sink that keeps a record of an execution together with a message. SendKept is Send: when done gets nil, both
// are durable. After a crash both are there, or neither.
type Keeper interface {
	SendKept(ctx context.Context, m Message, r Record, done func(error)) error
}

// Graveyard is the view of dead letters.
type Graveyard interface {
	// Bury is Sink.Send for dead letters; done is never called with a *Rejection: what is too large for NATS is cut.
	Bury(ctx context.Context, l Letter, done func(error)) error
}

// ShadowView holds the last known shadow document of each Thing, and with it a note of the bridge's own, which
// programs that read the view don't see. Both change at once. A method returns when the change is durable.
type ShadowView interface {
	GetNoted(ctx context.Context, key string) (value, note []byte, err error) // ErrNotFound
	// PutNoted takes a note that is one line of ASCII, MaxNote bytes long at most; nil: none. ErrTooLarge: nothing has
	// changed.
	PutNoted(ctx context.Context, key string, value, note []byte) error
	Delete(ctx context.Context, key string) error // deleting what is not there is no error
}

// MaxNote is the longest note: NATS takes 64 KiB of headers.
const MaxNote = 48 << 10

// StatusView holds the status of each Thing's connection. It need not be durable: what it held is written anew at the
// start.
type StatusView interface {
	Put(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error // deleting what is not there is no error
}
