package local

import (
	"bytes"

	"fleetbridge/bridge/local/door"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// A publish on `up` that nothing takes is answered "no responders" by the server when its sender waits for an answer, and
// otherwise vanishes: a misspelt Thing, or a misspelt channel. A subscription that heard of these would take the answer
// away, so the door reads along what programs send, subjects only.

// Stray is why nothing takes a publish.
type Stray string

const (
	StrayThing   Stray = "thing"   // none of that name is configured
	StrayChannel Stray = "channel" // it has no such channel
)

// Strays lists all reasons.
var Strays = [...]Stray{StrayThing, StrayChannel}

// SetThings says for which Things programs may publish. Until it is called, nothing is a stray.
func (s *Server) SetThings(things []mapping.Thing) {
	tokens := make(map[string]bool, len(things))
	for _, t := range things {
		tokens[mapping.Token(string(t))] = true
	}
	s.tokens.Store(&tokens)
}

// upward says of what programs publish on `up` what nothing takes. What a user may not publish is refused, and its program
// told.
func (s *Server) upward(by door.Place, subject []byte) {
	rest, up := bytes.CutPrefix(subject, s.up)
	tokens := s.tokens.Load()
	if !up || tokens == nil {
		return
	}
	thing, rest, _ := bytes.Cut(rest, []byte("."))
	kind, _, _ := bytes.Cut(rest, []byte("."))
	reason, said := StrayThing, "a program published for a Thing that is not configured: it goes nowhere"
	if (*tokens)[string(thing)] {
		if _, known := mapping.ParseKind(string(kind)); known {
			return
		}
		reason, said = StrayChannel, "a program published on a channel that a Thing does not have: it goes nowhere"
	}
	if s.logins != nil && !by.Operator && !s.logins.publishes(by.User, string(subject)) {
		return
	}
	if s.stray != nil {
		s.stray(reason)
	}
	s.log.Warn(said, "subject", wire.ProgramText(string(subject)))
}
