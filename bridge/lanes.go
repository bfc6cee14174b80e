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
//   - When there is no room, a message is refused with an error for its sender, and nothing is forgotten. Settling makes
//     room.
type Lanes interface {
	Outbox
	// TakeOver takes a Thing's lanes over: whoever had them ends with ErrTakenOver, and what that one settles from then
	// on changes nothing. Deliveries begin when Run does. Beside an error it returns the lanes that it has taken over
	// already, so that the caller can Remove them.
	TakeOver(ctx context.Context, t mapping.Thing) (ThingLanes, error)
	// SetThings changes the Things that can be published for; the embedded server needs at least one. A publish for another Thing is
	// refused. What the lanes of others hold stays there until they come back. After an error, some may have changed:
	// the same call, or one with the Things of before, puts that right.
	SetThings(ctx context.Context, things []mapping.Thing) error
	// Queued returns how many stored messages are not settled, for each Thing that can be published for.
	Queued(ctx context.Context) (map[mapping.Thing]uint64, error)
	// Left returns the same for the given Things, also for those that are not configured any more.
	Left(ctx context.Context, things []mapping.Thing) (map[mapping.Thing]uint64, error)
	// Accepted returns how many messages were stored since the start, and with these how many were waiting then.
	Accepted(ctx context.Context) (uint64, error)
}

// ThingLanes are the lanes of one Thing, one a kind.
type ThingLanes interface {
	// Lane is the source of a kind. It has one taker.
	Lane(k mapping.Kind) Source
	// Run hands out deliveries until ctx ends, and then returns nil. It waits while something fails that may pass. It
	// returns ErrTakenOver when somebody else has the lanes.
	Run(ctx context.Context) error
	// Flush makes durable what was settled before the call. When it has returned nil, none of these messages comes again,
	// not even after a kill.
	Flush(ctx context.Context) error
	// Oldest returns since when the oldest message has waited that was handed out and is not settled. waits is false when
	// there is none.
	Oldest() (at time.Time, waits bool)
	// Remove gives up the lanes of a Thing that has been removed. Call it after Run has returned. The stored messages
	// stay.
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

// Receipt says that a message is stored; it prints as a PubAck.
type Receipt struct {
	Stream   string `json:"stream"`
	Sequence uint64 `json:"seq"` // ascends within a lane
}
