package bridge

import (
	"context"
	"errors"
	"time"

	"fleetbridge/mapping"
)

// ErrTakenOver ends the lanes of a Thing that somebody else has taken over.
var ErrTakenOver = errors.New("another fleetbridge has taken the queue over")

// Lanes keep what is on its way to the cloud: what programs publish and what the bridge itself enqueues. A lane is a
// Thing's messages of one kind, so a kind that stands still holds up none of the others. The package porttest asks each
// implementation for what is promised here:
//
//   - A message is durable before it is handed out, and before whoever sent it hears that it is stored.
//   - A lane hands out in the order in which it stored, each message once, and bounds what is handed out and unsettled.
//   - Settlement is in order, so a lane has a floor: up to it everything is settled. After a stop or a kill the next
//     taker gets what lies above the floor, all of it, in order, and then what is newer. After a kill the floor may be
//     somewhat lower than it was; after Flush it is not.
//   - A message id that comes again within two minutes, on the same subject, is stored once.
//   - What is full refuses, with an error for the sender, and forgets nothing. What is settled makes room.
type Lanes interface {
	Outbox
	// TakeOver takes a Thing's lanes over: whoever had them ends with ErrTakenOver, and what that one settles from then
	// on changes nothing. Deliveries begin when Run does. With an error, what was taken over until then is returned,
	// for Remove.
	TakeOver(ctx context.Context, t mapping.Thing) (ThingLanes, error)
	// SetThings changes the Things that can be published for; at least one is needed. A publish for another Thing is
	// refused. What the lanes of others hold stays there until they come back. After an error, some may have changed:
	// the same call, or one with the Things of before, puts that right.
	SetThings(ctx context.Context, things []mapping.Thing) error
	// Queued counts what is stored and not settled, of each Thing that can be published for.
	Queued(ctx context.Context) (map[mapping.Thing]uint64, error)
	// Left counts it for Things that need not be among these any more.
	Left(ctx context.Context, things []mapping.Thing) (map[mapping.Thing]uint64, error)
	// Accepted counts what was stored since the start, and what was waiting then.
	Accepted(ctx context.Context) (uint64, error)
}

// ThingLanes are the lanes of one Thing, one a kind.
type ThingLanes interface {
	// Lane is the source of a kind. It has one taker.
	Lane(k mapping.Kind) Source
	// Run hands out deliveries until ctx ends, and then returns nil. Failures that pass are waited out. It returns
	// ErrTakenOver when somebody else has the lanes.
	Run(ctx context.Context) error
	// Flush returns when nothing that was settled before comes again, whatever happens next, or with an error.
	Flush(ctx context.Context) error
	// Oldest returns since when the oldest message waits that was handed out and is not settled; false: there is none.
	Oldest() (at time.Time, waits bool)
	// Remove lets the lanes go of a Thing that is not to come back at once, after Run has returned. What they hold
	// stays.
	Remove(ctx context.Context) error
}

// Outbox takes messages for the cloud that the bridge itself writes, such as the answer to a
// command that nobody serves. They travel like every program's.
type Outbox interface {
	// Enqueue returns when the message is stored in its lane, behind what is there, or at once with the error that
	// every program would get. After a time-out nobody knows whether it is stored.
	Enqueue(ctx context.Context, a mapping.Address, payload []byte, t Trace) (Receipt, error)
	// Pending reports whether a message for the address is stored and not settled. Right after its settlement it may
	// still say so; it never denies a message that is there.
	Pending(ctx context.Context, a mapping.Address) (bool, error)
}

// Receipt is the word that a message is stored; it prints as a PubAck.
type Receipt struct {
	Stream   string `json:"stream"`
	Sequence uint64 `json:"seq"` // ascends within a lane
}
