package bench

import (
	"fmt"
	"slices"
	"time"

	"fleetbridge/mapping"
)

// Kind is which way is measured.
type Kind string

const (
	Up      Kind = "up"      // a program's message, to the broker
	Down    Kind = "down"    // the cloud's message, to a program
	Command Kind = "command" // a round trip: cloud, handler, cloud
	Req     Kind = "req"     // a round trip: program, cloud, program
)

// Kinds in the order of documents.
var Kinds = []Kind{Up, Down, Command, Req}

// Load is what is sent.
type Load struct {
	Kind Kind
	// Channel is a one-way kind's: see Channels. Empty: the first of them.
	Channel mapping.Channel
	Things  []mapping.Thing
	Size    int // bytes of a payload; of no effect on Req
	// Rate is in messages a second, over all Things; 0: as fast as it goes, which is to say with Window
	// messages under way at any time.
	Rate   float64
	Window int // 0: 4096 for the one-way kinds, 1 for round trips
	// Messages ends the run after so many; 0: Duration does.
	Messages int
	Duration time.Duration
	// Warmup comes before Duration and is not measured.
	Warmup time.Duration
}

// Channels are what a one-way kind can send. The first is the default.
func (k Kind) Channels() []mapping.Channel {
	switch k {
	case Up:
		return []mapping.Channel{mapping.Event, mapping.ShadowReport}
	case Down:
		return []mapping.Channel{mapping.ShadowDelta, mapping.JobsNotify}
	case Command:
		return []mapping.Channel{mapping.CommandRequest}
	}
	return []mapping.Channel{mapping.JobsGet}
}

// addresses are the Things' of the channel.
func (l Load) addresses() []mapping.Address {
	out := make([]mapping.Address, len(l.Things))
	for i, t := range l.Things {
		out[i] = mapping.Address{Thing: t, Channel: l.Channel}
		if out[i].Route().HasID() {
			out[i].ID = ID
		}
	}
	return out
}

func (k Kind) roundTrip() bool { return k == Command || k == Req }

// maxThings is how many a tag can name.
const maxThings = 10_000

// maxOpen bounds what is under way when a rate is asked for that the bridge can't keep.
const maxOpen = 1 << 20

// complete fills in what was left open, or tells what can't be.
func (l *Load) complete() error {
	if !slices.Contains(Kinds, l.Kind) {
		return fmt.Errorf("kind %q: use up, down, command or req", l.Kind)
	}
	channels := l.Kind.Channels()
	if l.Channel == "" {
		l.Channel = channels[0]
	}
	if !slices.Contains(channels, l.Channel) {
		return fmt.Errorf("channel %q: %s sends %v", l.Channel, l.Kind, channels)
	}
	switch {
	case len(l.Things) == 0 || len(l.Things) > maxThings:
		return fmt.Errorf("things: %d, at least 1 and at most %d", len(l.Things), maxThings)
	case l.Rate < 0:
		return fmt.Errorf("rate: %g, at least 0", l.Rate)
	case l.Window < 0 || l.Window > maxOpen:
		return fmt.Errorf("window: %d, at most %d", l.Window, maxOpen)
	case l.Messages < 0:
		return fmt.Errorf("messages: %d, at least 1", l.Messages)
	case l.Messages == 0 && l.Duration <= 0:
		return fmt.Errorf("duration: %s, more than 0", l.Duration)
	}
	if least := LeastSize(l.Channel); l.Kind != Req && l.Size < least {
		return fmt.Errorf("size: %d bytes, %s takes at least %d", l.Size, l.Channel, least)
	}
	switch {
	case l.Window > 0:
	case l.Rate > 0:
		l.Window = maxOpen
	case l.Kind.roundTrip():
		l.Window = 1
	default:
		l.Window = 4096
	}
	return nil
}
