package embedded

import (
	"bytes"
	"encoding/json"

	"fleetbridge/bridge/local/access"
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

// upward says of what programs publish on `up` what nothing takes. What a user may not publish the server refuses with a
// word to the connection; who waits for a PubAck does not hear that, so the answer says it, too. It is given when the server
// has passed on what came before: the subscription to the answer may have come together with the publish.
func (s *Server) upward(by door.Place, subject, reply []byte) (passed func()) {
	rest, up := bytes.CutPrefix(subject, s.up)
	if !up {
		return nil
	}
	thing, rest, _ := bytes.Cut(rest, []byte("."))
	kind, _, _ := bytes.Cut(rest, []byte("."))
	if s.logins != nil && !by.Operator && !s.logins.Sends(by.User, string(thing), string(kind)) {
		if len(reply) == 0 {
			return nil
		}
		on, to := string(subject), string(reply)
		return func() { s.refuse(by.User, on, to) }
	}
	tokens := s.tokens.Load()
	if tokens == nil {
		return nil
	}
	reason, said := StrayThing, "a program published for a Thing that is not configured: it goes nowhere"
	if (*tokens)[string(thing)] {
		if _, known := mapping.ParseKind(string(kind)); known {
			return nil
		}
		reason, said = StrayChannel, "a program published on a channel that a Thing does not have: it goes nowhere"
	}
	if s.stray != nil {
		s.stray(reason)
	}
	s.log.Warn(said, "subject", wire.ProgramText(string(subject)))
	return nil
}

// refuse answers a publish that a user may not make, where its program waits for a PubAck.
func (s *Server) refuse(user, subject, reply string) {
	if !wire.Answerable(s.subjects, reply) {
		return // no answer gets there
	}
	body, err := json.Marshal(map[string]error{"error": wire.Refuse("user %s may not publish on %s; see local.users", user, wire.ProgramText(subject))})
	if err != nil {
		s.log.Error("an answer to a publish can't be spelled", "user", user, "error", err)
		return
	}
	_ = s.marks.Publish(access.DeliverSpace(s.subjects, user)+reply, body) // only its own inboxes are imported
}
