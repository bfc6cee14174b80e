package cluster

// Marker is the message that fences a shard in a stream.
type Marker struct {
	Epoch  uint64 `json:"epoch"`
	Bridge string `json:"bridge"`
}

// Verdict is what becomes of a write that a stream refused because of its marker.
type Verdict int

const (
	// Again: the marker is the writer's own, at another sequence than it thought.
	Again Verdict = iota
	// PutBack: there is no marker any more, as when the stream was full. The owner writes a new one, which must be the first.
	PutBack
	// Superseded: the shard has another owner, or had.
	Superseded
)

// Refusal judges a refused write of an epoch by the marker that is there; nil: there is none.
func Refusal(epoch uint64, m *Marker) Verdict {
	switch {
	case m == nil:
		return PutBack
	case m.Epoch == epoch:
		return Again
	}
	return Superseded
}

// Raise reports whether an owner may put its marker in the place of this one, which may be nil.
func Raise(epoch uint64, m *Marker) bool { return m == nil || m.Epoch <= epoch }

// Proves reports whether an answer decides: a replica that had applied its stream up to a sequence has given it, and
// that is not before the last one that the owner knows of, which is its marker's or that of a later write.
func Proves(upTo, known uint64) bool { return upTo >= known }

// Takeover is how an execution goes on under a new owner.
type Takeover int

const (
	Call Takeover = iota // nobody was called
	Wait                 // a handler was called, or was about to be: its reply is waited for
)

// AfterTakeover decides by the note that was stored before the call.
func AfterTakeover(called bool) Takeover {
	if called {
		return Wait
	}
	return Call
}
