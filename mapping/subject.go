package mapping

import (
	"fmt"
	"strings"
)

// Space is the second part of a subject: it says what the message is for.
type Space string

const (
	SpaceUp       Space = "up"
	SpaceDown     Space = "down"
	SpaceReq      Space = "req"
	SpaceDeadUp   Space = "dead.up"
	SpaceDeadDown Space = "dead.down"
)

// Direction is the way of the channels that live in the space.
func (s Space) Direction() Direction {
	if s == SpaceDown || s == SpaceDeadDown {
		return Down
	}
	return Up
}

// Subjects prints and parses subjects under one prefix, and names the streams and buckets that
// belong to it.
type Subjects struct{ prefix string }

// NewSubjects checks the prefix: one or more plain tokens (A-Z a-z 0-9 _ -) joined by dots.
func NewSubjects(prefix string) (Subjects, error) {
	for token := range strings.SplitSeq(prefix, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r > 127 || !plain(byte(r)) }) {
			return Subjects{}, fmt.Errorf("prefix %q: use tokens of A-Z a-z 0-9 _ -, joined by dots", prefix)
		}
	}
	return Subjects{prefix}, nil
}

// Prefix is the first part of every subject.
func (s Subjects) Prefix() string { return s.prefix }

// Space prints the wildcard over a whole space, "fleets.up.>".
func (s Subjects) Space(sp Space) string { return s.prefix + "." + string(sp) + ".>" }

// Print spells an address in a space.
func (s Subjects) Print(sp Space, a Address) string {
	return s.print("", sp, a)
}

func (s Subjects) print(before string, sp Space, a Address) string {
	p := a.Route().pattern()
	return before + s.prefix + "." + string(sp) + "." + Token(string(a.Thing)) + "." + p.subject.before + p.token(a) + p.subject.behind
}

// Parse is the inverse of Print.
func (s Subjects) Parse(subject string) (Space, Address, error) {
	rest, ok := strings.CutPrefix(subject, s.prefix+".")
	if !ok {
		return "", Address{}, fmt.Errorf("subject %q: %w: it must begin with %q", subject, ErrNoRoute, s.prefix+".")
	}
	for _, sp := range [...]Space{SpaceUp, SpaceDown, SpaceReq, SpaceDeadUp, SpaceDeadDown} {
		if tail, ok := strings.CutPrefix(rest, string(sp)+"."); ok {
			a, err := ParseTail(sp.Direction(), tail)
			if err != nil {
				return sp, a, fmt.Errorf("subject %q: %w", subject, err)
			}
			return sp, a, nil
		}
	}
	return "", Address{}, fmt.Errorf("subject %q: %w: after %s comes up, down, req or dead", subject, ErrNoRoute, s.prefix)
}

// Thing prints the wildcard over a Thing's subjects in a space, "fleets.up.pump-07.>".
func (s Subjects) Thing(sp Space, t Thing) string {
	return s.prefix + "." + string(sp) + "." + Token(string(t)) + ".>"
}

// Class prints the wildcards over a Thing's upward subjects of one class.
func (s Subjects) Class(t Thing, c Class) []string { return s.class(Token(string(t)), c) }

// EveryClass prints the wildcards over all Things' upward subjects of one class.
func (s Subjects) EveryClass(c Class) []string { return s.class("*", c) }

// Kind prints the wildcard over a Thing's upward subjects of one kind, "fleets.up.pump-07.events.>".
func (s Subjects) Kind(t Thing, k Kind) string { return s.kind(Token(string(t)), k) }

func (s Subjects) class(token string, c Class) (out []string) {
	for _, k := range Kinds {
		if k.Class() == c {
			out = append(out, s.kind(token, k))
		}
	}
	return out
}

func (s Subjects) kind(token string, k Kind) string {
	return s.prefix + "." + string(SpaceUp) + "." + token + "." + k.String() + ".>"
}

// Command prints the subject that a handler of an action serves, "fleets.cmd.pump-07.purge".
func (s Subjects) Command(t Thing, action string) string {
	return s.prefix + ".cmd." + Token(string(t)) + "." + Token(action)
}

// Service prints the subject of the request service of an upward route, with * for the Thing and
// the id: "fleets.req.*.jobs.*.update".
func (s Subjects) Service(r *Route) string {
	id, p := "", r.pattern()
	if p.id >= 0 {
		id = "*"
	}
	return s.prefix + "." + string(SpaceReq) + ".*." + p.subject.before + id + p.subject.behind
}

// ShadowGet names the one request that has no topic: it goes to the Fleets HTTP API.
const ShadowGet = "shadow.get"

// ShadowGet prints the subject of that request, "fleets.req.pump-07.shadow.get".
func (s Subjects) ShadowGet(t Thing) string { return s.shadowGet(Token(string(t))) }

// EveryShadowGet prints the wildcard over those of all Things, "fleets.req.*.shadow.get".
func (s Subjects) EveryShadowGet() string { return s.shadowGet("*") }

func (s Subjects) shadowGet(token string) string {
	return s.prefix + "." + string(SpaceReq) + "." + token + "." + ShadowGet
}

// ParseShadowGet is the inverse of ShadowGet.
func (s Subjects) ParseShadowGet(subject string) (Thing, error) {
	rest, ok := strings.CutPrefix(subject, s.prefix+"."+string(SpaceReq)+".")
	token, ok2 := strings.CutSuffix(rest, "."+ShadowGet)
	if !ok || !ok2 {
		return "", fmt.Errorf("subject %q: %w: it is not that of %s", subject, ErrNoRoute, ShadowGet)
	}
	name, err := Untoken(token)
	if err == nil {
		var t Thing
		if t, err = ParseThing(name); err == nil {
			return t, nil
		}
	}
	return "", fmt.Errorf("subject %q: %w", subject, err)
}

// Store prints the subject on which the bridge alone hands a message to a capturing stream. The
// stream stores and republishes it under Print's spelling, so that nobody sees what is not on disk
// and what a program publishes on a down subject is not mistaken for the cloud's word.
func (s Subjects) Store(sp Space, a Address) string { return s.print("_", sp, a) }

// Stream and bucket names, derived from the prefix in upper case: FLEETS_DOWN.
func (s Subjects) Name(suffix string) string {
	return strings.ToUpper(strings.ReplaceAll(s.prefix, ".", "_")) + "_" + suffix
}

// StrayTail spells a topic that has no address, so that its dead letter has a subject: the Thing,
// then every level of the topic's rest as a token.
func StrayTail(t Thing, topic string) string {
	tail := Token(string(t))
	for _, root := range []string{"$emqx/things/", "$emqx/commands/things/"} {
		if rest, ok := strings.CutPrefix(topic, root+string(t)+"/"); ok {
			topic = rest
			break
		}
	}
	for level := range strings.SplitSeq(topic, "/") {
		if level == "" {
			level = " "
		}
		tail += "." + Token(level)
	}
	return tail
}
