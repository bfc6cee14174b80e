package explain

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"fleetbridge/bridge/gateway"
	"fleetbridge/mapping"
)

// Match is a row of the protocol that somebody asked about, with what they said of the Thing and the
// id. What they left open is "".
type Match struct {
	route *mapping.Route
	// service stands in for the route where there is none: shadowGet or commandHandler.
	service   string
	thing, id string
}

// The two that are no channel: a question to the Fleets HTTP API, and the subject of a command's
// handler.
const (
	shadowGet      = mapping.ShadowGet
	commandHandler = "command.handler"
)

// Everything is the whole protocol, in the order of the routes.
func Everything() []Match {
	var out []Match
	for _, r := range mapping.Routes() {
		out = append(out, Match{route: r.Channel.Route()})
		if r.Channel == mapping.ShadowDelta {
			out = append(out, Match{service: shadowGet})
		}
		if r.Channel == mapping.CommandResponse {
			out = append(out, Match{service: commandHandler})
		}
	}
	return out
}

func (m Match) name() string {
	if m.service != "" {
		return m.service
	}
	return string(m.route.Channel)
}

// Open reports whether the match is more than one address.
func (m Match) Open() bool {
	return m.thing == "" || m.id == "" && (m.service == commandHandler || m.route != nil && m.route.HasID())
}

// check holds what was said of the Thing and the id against the rules for names.
func (m Match) check() error {
	if m.thing != "" {
		if _, err := mapping.ParseThing(m.thing); err != nil {
			return err
		}
	}
	if m.id != "" && m.route != nil {
		return mapping.CheckID(m.id)
	}
	return nil
}

// address is the match's address, if it is not open.
func (m Match) address() mapping.Address {
	return mapping.Address{Thing: mapping.Thing(m.thing), Channel: m.route.Channel, ID: m.id}
}

func isTopic(text string) bool { return strings.HasPrefix(text, "$emqx/") }

func isSubject(s mapping.Subjects, text string) bool {
	return strings.HasPrefix(text, s.Prefix()+".")
}

// Find reads a topic, a subject or a channel's name. Wildcards of either side and placeholders such
// as {t} stand for anything.
func Find(s mapping.Subjects, text string) (found []Match, err error) {
	switch {
	case isTopic(text):
		found, err = findTopic(text)
	case isSubject(s, text):
		found, err = findSubject(s, text)
	default:
		return findName(s, text)
	}
	for _, m := range found {
		if err == nil {
			err = m.check()
		}
	}
	if err != nil {
		found = nil
	}
	if errors.Is(err, mapping.ErrNoRoute) {
		err = fmt.Errorf("%w; fleetbridge explain lists them", err)
	}
	return found, err
}

func findName(s mapping.Subjects, text string) ([]Match, error) {
	var names []string
	for _, m := range Everything() {
		if m.name() == text {
			return []Match{m}, nil
		}
		names = append(names, m.name())
	}
	if near := gateway.Closest(text, names); near != "" {
		return nil, fmt.Errorf("%q is no topic, subject or channel, did you mean %s?", text, near)
	}
	return nil, fmt.Errorf("%q is no topic, subject or channel: topics begin with $emqx/, subjects with %s. and fleetbridge explain lists the channels", text, s.Prefix())
}

func findTopic(text string) ([]Match, error) {
	if levels := strings.Split(text, "/"); slices.ContainsFunc(levels, topicSpelling().wild) {
		var out []Match
		for _, m := range Everything() {
			if m.route != nil && m.fits(levels, strings.Split(m.route.Topic, "/"), topicSpelling()) {
				out = append(out, m)
			}
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("topic %q: %w", text, mapping.ErrNoRoute)
		}
		return out, nil
	}
	var out []Match
	var failure error
	for _, d := range []mapping.Direction{mapping.Up, mapping.Down} {
		a, err := mapping.ParseTopic(d, text)
		if err == nil {
			out = append(out, Match{route: a.Route(), thing: string(a.Thing), id: a.ID})
		} else if failure == nil || errors.Is(failure, mapping.ErrNoRoute) {
			failure = err
		}
	}
	if len(out) == 0 {
		return nil, failure
	}
	return out, nil
}

func findSubject(s mapping.Subjects, text string) ([]Match, error) {
	rest := strings.TrimPrefix(text, s.Prefix()+".")
	if rest == ">" {
		return Everything(), nil
	}
	space, tail, _ := strings.Cut(rest, ".")
	if space == "dead" {
		way, after, _ := strings.Cut(tail, ".")
		space, tail = "dead."+way, after
	}
	levels := strings.Split(tail, ".")
	open := slices.ContainsFunc(levels, subjectSpelling(nil).wild)
	service := space == "cmd" || space == string(mapping.SpaceReq) && (open || strings.HasSuffix(tail, "."+mapping.ShadowGet))
	if !open && !service {
		_, a, err := s.Parse(text)
		if err != nil {
			return nil, err
		}
		return []Match{{route: a.Route(), thing: string(a.Thing), id: a.ID}}, nil
	}
	return findOpenSubject(text, space, levels)
}

// findOpenSubject finds what a subject with wildcards covers, and the subjects that are no address.
func findOpenSubject(text, space string, levels []string) ([]Match, error) {
	var out []Match
	var broken error
	spelled := subjectSpelling(&broken)
	known := []string{"cmd"}
	for _, sp := range []mapping.Space{mapping.SpaceUp, mapping.SpaceDown, mapping.SpaceReq, mapping.SpaceDeadUp, mapping.SpaceDeadDown} {
		known = append(known, string(sp))
	}
	if !slices.Contains(known, space) {
		return nil, fmt.Errorf("subject %q: after the prefix comes one of %s", text, strings.Join(known, ", "))
	}
	for _, m := range Everything() {
		if tail, ok := m.tailIn(space); ok && m.fits(levels, strings.Split(tail, "."), spelled) {
			out = append(out, m)
		}
	}
	switch {
	case broken != nil && len(out) > 0:
		return nil, fmt.Errorf("subject %q: %w", text, broken)
	case len(out) == 0 && space == "cmd":
		return nil, fmt.Errorf("subject %q: after cmd come the Thing and the action", text)
	case len(out) == 0:
		return nil, fmt.Errorf("subject %q: %w", text, mapping.ErrNoRoute)
	}
	return out, nil
}

// tailIn is the row's subject after "{prefix}.{space}.", if it has one there.
func (m Match) tailIn(space string) (string, bool) {
	switch {
	case m.service == commandHandler:
		return "{t}.{action}", space == "cmd"
	case m.service == shadowGet:
		return "{t}." + mapping.ShadowGet, space == string(mapping.SpaceReq)
	case space == "cmd":
		return "", false
	}
	return "{t}." + m.route.Tail, mapping.Space(space).Direction() == m.route.Direction
}

// spelling is how one side writes names and wildcards.
type spelling struct {
	any, rest   string
	restMatches int // the least number of levels that rest stands for
	decode      func(string) string
}

func topicSpelling() spelling {
	return spelling{"+", "#", 0, func(s string) string { return s }}
}

// subjectSpelling notes the first token that is none in broken.
func subjectSpelling(broken *error) spelling {
	return spelling{"*", ">", 1, func(token string) string {
		name, err := mapping.Untoken(token)
		if err != nil && *broken == nil {
			*broken = err
		}
		return name
	}}
}

// wild reports whether a level stands for anything.
func (sp spelling) wild(level string) bool {
	return level == sp.any || level == sp.rest || placeholder(level)
}

func placeholder(level string) bool {
	return len(level) > 2 && level[0] == '{' && level[len(level)-1] == '}'
}

// fits compares what was asked with a row's pattern and notes the Thing and the id in the row.
func (m *Match) fits(asked, pattern []string, sp spelling) bool {
	thing, id := "", ""
	for i, level := range asked {
		switch {
		case level == sp.rest && i == len(asked)-1 && i+sp.restMatches <= len(pattern):
			m.thing, m.id = thing, id
			return true
		case i >= len(pattern):
			return false
		case sp.wild(level):
		case pattern[i] == "{t}":
			thing = sp.decode(level)
		case placeholder(pattern[i]):
			id = sp.decode(level)
		case level != pattern[i]:
			return false
		}
	}
	m.thing, m.id = thing, id
	return len(asked) == len(pattern)
}
