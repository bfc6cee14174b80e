package bridge

import (
	"sync/atomic"
	"time"

	"fleetbridge/mapping"
)

// What is seen besides the outcomes of messages.
const (
	Answered     Outcome = "answered"     // a request on req; Code is 0, or what a refusal has
	Called       Outcome = "called"       // a command went to a program
	Replied      Outcome = "replied"      // a program replied to a command; Code is that of its service error
	Decided      Outcome = "decided"      // the bridge answered a command in a program's place; Code is the status
	Connected    Outcome = "connected"    // a Thing's session
	Disconnected Outcome = "disconnected" // a Thing's session; Reason says why, if it is known
)

// Sightings lists all outcomes that a viewer may see, in the order of the declaration.
var Sightings = [...]Outcome{Delivered, Duplicate, Dead, Answered, Called, Replied, Decided, Connected, Disconnected}

// ShadowGet stands for a channel where one is shown: the request for a shadow document belongs to none.
const ShadowGet mapping.Channel = mapping.ShadowGet

// Sighting is what became of a message, or another thing that happened, for people who look.
type Sighting struct {
	At        time.Time
	Took      time.Duration // since the bridge began with it; 0: not known
	Outcome   Outcome
	Direction mapping.Direction // of no meaning for Connected and Disconnected
	Address   mapping.Address   // without a channel for what has no address
	Origin    string            // the topic or subject that it came on, if that is known
	// Payload is what went on, or what came if nothing did. It is valid during Saw only, and nobody may write into it.
	Payload  []byte
	Size     int // of the payload, when Payload is only its head
	Code     string
	Reason   string
	Sequence uint64 // in its stream; 0: it is from none
	Trace    Trace
}

// Viewer is told what happens. Saw returns at once and keeps nothing of the payload but a copy.
type Viewer interface{ Saw(*Sighting) }

// Watch is where messages are told of as they pass. Without a viewer that costs a load. The zero value, and nil, have none.
type Watch struct{ viewer atomic.Pointer[Viewer] }

// Show has v told from now on; nil: nobody.
func (w *Watch) Show(v Viewer) {
	if v == nil {
		w.viewer.Store(nil)
		return
	}
	w.viewer.Store(&v)
}

// on tells whether somebody looks.
func (w *Watch) on() bool { return w != nil && w.viewer.Load() != nil }

// tell is called when on said so.
func (w *Watch) tell(s Sighting) {
	if v := w.viewer.Load(); v != nil {
		s.At = time.Now()
		(*v).Saw(&s)
	}
}

// ended tells how a message ended.
func (p *Pump) ended(w *passage, m *Message, o Outcome, r *Rejection) {
	s := Sighting{Took: time.Since(w.taken), Outcome: o, Direction: p.Direction, Address: m.Address, Origin: m.Origin, Payload: m.Payload, Size: m.Size,
		Sequence: m.Sequence, Trace: m.Trace}
	if s.Address.Thing == "" {
		s.Address.Thing = p.Thing
	}
	if r != nil {
		s.Code, s.Reason = string(r.Code), r.Reason
	}
	p.Watch.tell(s)
}
