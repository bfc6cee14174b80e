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
	// Again, when set, returns the payload for another try after a refusal. Call it before each such try. A merged report
	// then leaves out what other refused reports have brought into it.
	Again func() []byte
	// Size is the length of the whole payload when it was too large, and Payload is only its beginning. 0: Payload is
	// whole.
	Size  int
	Trace Trace
	// Received is when the bridge became answerable for it: the up stream's timestamp, or the arrival
	// from the broker.
	Received time.Time
	// Expires is when the message is of no use any more: from then on it is not sent, but becomes a dead letter. Zero:
	// it never expires.
	Expires time.Time
	// Stamp is the timestamp that an event gets if its sender left it out, in Unix milliseconds: the same however
	// often the message is read, and no other event's of the Thing. 0: there is none yet.
	Stamp int64
	// Origin is the spelling it arrived in, topic or subject, for people who read dead letters.
	Origin string
	// Stray takes the place of the address when there is none. It is the end of a dead letter's subject, behind
	// "dead.up." or "dead.down.".
	Stray string
	// Sequence numbers stored messages within their stream; 0: not from a stream.
	Sequence uint64
	// Retained is set when the broker has delivered it as a retained message.
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
	// Settle tells the source that it need not hold the message any longer, because a sink or the graveyard has taken
	// durable charge of it. It is called once, in the order in which the source handed its deliveries out, one after the
	// other, from any goroutine. So a source need not know which delivery is settled: it is always the oldest unsettled
	// one. Settle does not wait. What is not settled when the source ends comes again from the next one, in the same order.
	Settle func()
}

// Source hands out deliveries in order, to one taker, who settles them in that order. The core sees to this order: see
// settlements.
type Source interface {
	// Take waits for deliveries and returns the next ones, some at a time. The slice is the caller's until
	// it calls again; it is empty only when ctx has ended.
	Take(ctx context.Context) []Delivery
}

// Sink takes messages in order and reports when it has taken durable charge of each: when the broker has acknowledged it,
// or when it is stored so that it survives a crash.
type Sink interface {
	// Send blocks while the sink's window is full and returns an error only when ctx ends. Otherwise
	// done is called exactly once, from any goroutine: with nil when the sink has taken durable charge,
	// with a *Rejection when the other side will never take it. Every other failure the sink retries
	// by itself, in order.
	Send(ctx context.Context, m Message, done func(error)) error
}
