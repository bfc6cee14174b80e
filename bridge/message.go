package bridge

import (
	"context"
	"time"

	"fleetbridge/mapping"
)

// Message is one payload on its way, in neither side's spelling.
type Message struct {
	Address mapping.Address
	// Payload is what was sent, byte for byte. Nobody may write into it.
	Payload []byte
	// Again, when set, makes the payload anew for another try after the other side has refused it: call it before each
	// such try. A merged report then leaves out what others that are refused as well have brought into it.
	Again func() []byte
	// Size is how many bytes the payload had when it was too large to be kept whole, and Payload is its head.
	// 0: it is whole.
	Size  int
	Trace Trace
	// Received is when the bridge became answerable for it: the up stream's timestamp, or the arrival
	// from the broker.
	Received time.Time
	// Expires is when it is of no use any more: from then on it is not sent, but a dead letter. Zero: it goes
	// whatever its age.
	Expires time.Time
	// Stamp is the timestamp that an event gets if its sender left it out, in Unix milliseconds: the same however
	// often the message is read, and no other event's of the Thing. 0: there is none yet.
	Stamp int64
	// Origin is the spelling it arrived in, topic or subject, for people who read dead letters.
	Origin string
	// Stray stands in for the address when there is none: what follows the space in a dead letter's
	// subject.
	Stray string
	// Sequence numbers stored messages within their stream; 0: not from a stream.
	Sequence uint64
	// Retained tells that the broker had kept it for new subscribers.
	Retained bool
	// Source is set on messages that the bridge made itself: SourceShadowGet.
	Source string
}

// SourceShadowGet marks a delta that was read from the Fleets HTTP API.
const SourceShadowGet = "shadow-get"

// Trace is the W3C trace context, carried both ways untouched.
type Trace struct{ Parent, State string }

// Delivery is a message that its source will hold, or bring again, until it is settled.
type Delivery struct {
	Message
	// Err is set when the edge could not make an address of it; it is a *Rejection.
	Err error
	// Settle tells the source that it need not hold the message any longer: it is in durable charge elsewhere. It is
	// called once, in the order in which the source handed its deliveries out, one after the other, from any goroutine.
	// So a source need not know which delivery is settled: it is the oldest that is not. Settle does not wait. What is
	// not settled when the source ends comes again from the next one, in the same order.
	Settle func()
}

// Source hands out deliveries in order, to one taker, who settles them in that order. What is done in another one is
// put in line by the core: see settlements.
type Source interface {
	// Take waits for deliveries and returns the next ones, some at a time. The slice is the caller's until
	// it calls again; it is empty only when ctx has ended.
	Take(ctx context.Context) []Delivery
}

// Sink takes messages in order and reports when each is in durable charge.
type Sink interface {
	// Send blocks while the sink's window is full and returns an error only when ctx ends. Otherwise
	// done is called exactly once, from any goroutine: with nil when the message is in durable charge,
	// with a *Rejection when the other side will never take it. Every other failure the sink retries
	// by itself, in order.
	Send(ctx context.Context, m Message, done func(error)) error
}
