package cloud

import (
	"errors"
	"time"
)

// ending is what a connection brought, and why it is over.
type ending struct {
	cause error
	said  *brokerError // the broker's DISCONNECT; nil: it said nothing
	at    time.Time
	lived time.Duration // since CONNACK

	subscribed bool      // every SUBACK came
	kept       bool      // the broker had kept the session
	acked      int       // messages that the broker took or refused
	flying     int       // messages in flight at the end
	sent       time.Time // when the last message had been handed to the network; zero: none was
	roundTrip  time.Duration
	cost       int64 // bytes on the network, both ways
	blamed     bool  // a message was found that it ended over
	tested     bool  // it ended, without a reason, over a message that was suspected
	another    bool  // the next server is one that was not tried yet
}

// barren reports whether the connection brought nothing: no SUBACK, or no PUBACK though messages were in flight.
func (e ending) barren() bool { return !e.subscribed || e.flying > 0 && e.acked == 0 }

func (e ending) takenOver() bool { return e.said != nil && e.said.code == takenOver }

func (e ending) accused() bool { return e.said != nil && e.said.accuses() }

// leaves reports whether another server should be tried: this one sends its clients away, or did nothing for us. again: the
// connection before brought nothing either. A single connection that is cut while a message is in flight says nothing about
// the server: links break.
func (e ending) leaves(again bool) bool {
	switch {
	case e.said != nil && e.said.drains():
		return true
	case e.accused(), e.takenOver(), !e.barren():
		return false
	}
	return !e.subscribed || again || errors.Is(e.cause, errDeaf)
}

// mute reports whether nothing came after CONNACK until this side gave up, although the broker has kept the session: perhaps
// the link loses what the broker sends first, and the broker sends all of it again each time.
func (e ending) mute() bool {
	return e.kept && !e.subscribed && e.acked == 0 && e.still()
}

// still reports whether this side gave up because nothing moved.
func (e ending) still() bool {
	stall, due := (*stallError)(nil), (*unanswered)(nil)
	return errors.As(e.cause, &stall) || errors.As(e.cause, &due)
}

// errDeaf is a broker that acknowledges nothing.
var errDeaf = errors.New("with messages in flight")

// wordless reports whether the broker hung up without a reason.
func (e ending) wordless() bool { return e.said == nil && errors.Is(e.cause, errHungUp) }

// reference is the server that the broker names instead of itself.
func (e ending) reference() string {
	if e.said == nil {
		return ""
	}
	return e.said.reference
}
