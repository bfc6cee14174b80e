package bridge

import (
	"slices"
	"sync"
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

// Sighting is what viewers see: what became of a message, or something else that happened.
type Sighting struct {
	At        time.Time
	Took      time.Duration // since the bridge began with it; 0: not known
	Hops      Hops          // of a message that a pump moved
	Outcome   Outcome
	Direction mapping.Direction // of no meaning for Connected and Disconnected
	Address   mapping.Address   // without a channel for what has no address
	Origin    string            // the topic or subject that it came on, if that is known
	// Payload is what went on, or what came if nothing did. It is valid during Saw only, and nobody may write into it.
	Payload  []byte
	Size     int // of the payload, when Payload is only its head
	Code     string
	Reason   string
	Action   string // of a command that was called, replied to or decided
	Sequence uint64 // in its stream; 0: it is from none
	Trace    Trace
}

// Hops are the times of a message's steps. Durations count from when the pump took it from its source; 0: it did not get
// there, or nobody looked when it was taken.
type Hops struct {
	Received time.Time     // the bridge became answerable for it; zero: not known
	Decided  time.Duration // it was checked, and changed if that is due
	Sent     time.Duration // Send has returned
	Done     time.Duration // the sink has taken durable charge of it, or refused it
}

// Viewer sees what happens. Saw must return at once. What it keeps of the sighting it must copy.
type Viewer interface{ Saw(*Sighting) }

// Watch shows messages to viewers as they pass. Without a viewer that costs one atomic load. The zero Watch has no viewer,
// and a nil one never has any.
type Watch struct {
	viewers atomic.Pointer[[]Viewer] // nil: there are none
	mu      sync.Mutex               // held to change viewers
}

// Show adds a viewer. To add it twice has no effect.
func (w *Watch) Show(v Viewer) {
	w.change(func(vs []Viewer) []Viewer {
		if slices.Contains(vs, v) {
			return vs
		}
		return append(vs, v)
	})
}

// Hide removes a viewer. A call of its Saw that has begun may still go on.
func (w *Watch) Hide(v Viewer) {
	w.change(func(vs []Viewer) []Viewer { return slices.DeleteFunc(vs, func(o Viewer) bool { return o == v }) })
}

func (w *Watch) change(f func([]Viewer) []Viewer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var vs []Viewer
	if now := w.viewers.Load(); now != nil {
		vs = slices.Clone(*now)
	}
	if vs = f(vs); len(vs) == 0 {
		w.viewers.Store(nil)
		return
	}
	w.viewers.Store(&vs)
}

// on reports whether somebody looks.
func (w *Watch) on() bool { return w != nil && w.viewers.Load() != nil }

// lendings pools Sightings.
var lendings = sync.Pool{New: func() any { return new(Sighting) }}

// tell shows a sighting to all viewers. Call it only when on reports true; otherwise the sighting was made for nothing.
func (w *Watch) tell(s Sighting) {
	vs := w.viewers.Load()
	if vs == nil {
		return
	}
	lent := lendings.Get().(*Sighting)
	*lent = s
	lent.At = time.Now()
	for _, v := range *vs {
		v.Saw(lent)
	}
	*lent = Sighting{} // so that the pool keeps no payload alive
	lendings.Put(lent)
}

// ended shows viewers how a message ended.
func (p *Pump) ended(w *passage, m *Message, o Outcome, r *Rejection) {
	s := Sighting{Took: time.Since(w.taken), Outcome: o, Direction: p.Direction, Address: m.Address, Origin: m.Origin, Payload: m.Payload, Size: m.Size,
		Sequence: m.Sequence, Trace: m.Trace, Hops: Hops{Received: m.Received, Decided: w.decided, Sent: time.Duration(w.sent.Load()), Done: w.done}}
	if s.Address.Thing == "" {
		s.Address.Thing = p.Thing
	}
	if r != nil {
		s.Code, s.Reason = string(r.Code), r.Reason
	}
	p.Watch.tell(s)
}
