package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Address says where a message belongs, in neither side's spelling: a Thing, a channel, and the id
// where the channel has one (event type, job id or execution id).
type Address struct {
	Thing   Thing
	Channel Channel
	ID      string
}

// Errors of the parsers; each is wrapped with the offending text.
var (
	ErrNoRoute = errors.New("no such channel")
	ErrOwnEcho = errors.New("a request of the Thing's own, looped back")
	// ErrReportAnswer is the only error beside which the Thing is returned. The protocol has no answer to a report. A broker
	// may send one all the same, and a wide subscription matches it; it says no more than a PUBACK.
	ErrReportAnswer = errors.New("an answer to a report, for which the protocol has no channel")
)

// Route is the address's row of the table.
func (a Address) Route() *Route { return a.Channel.Route() }

// Topic prints the MQTT topic.
func (a Address) Topic() string { return a.Route().pattern().topic(string(a.Thing), a.ID) }

// Tail prints the subject after "{prefix}.{space}.", beginning with the Thing's token.
func (a Address) Tail() string {
	p := a.Route().pattern()
	return Token(string(a.Thing)) + "." + p.subject.before + p.token(a) + p.subject.behind
}

// ParseTopic is the inverse of Address.Topic. The direction is needed because shadow/update is used
// both ways. A topic that belongs to the other direction only is ErrOwnEcho: the broker looped back
// what this Thing may publish.
func ParseTopic(d Direction, topic string) (Address, error) {
	root, rest := "", ""
	switch {
	case strings.HasPrefix(topic, "$emqx/things/"):
		root, rest = "things", topic[len("$emqx/things/"):]
	case strings.HasPrefix(topic, "$emqx/commands/things/"):
		root, rest = "commands", topic[len("$emqx/commands/things/"):]
	default:
		return Address{}, fmt.Errorf("topic %q: %w: it does not begin with $emqx/things/ or $emqx/commands/things/", topic, ErrNoRoute)
	}
	name, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return Address{}, fmt.Errorf("topic %q: %w: it ends after the Thing", topic, ErrNoRoute)
	}
	thing, err := ParseThing(name)
	if err != nil {
		return Address{}, fmt.Errorf("topic %q: %w", topic, err)
	}
	levels := strings.Split(rest, "/")
	if root == "commands" {
		if levels[0] != "executions" {
			return Address{}, fmt.Errorf("topic %q: %w", topic, ErrNoRoute)
		}
		levels[0] = "commands" // the subject's spelling, in which the patterns are kept
	}
	if d == Down && (rest == "shadow/update/accepted" || rest == "shadow/update/rejected") && root == "things" {
		return Address{Thing: thing}, fmt.Errorf("topic %q: %w", topic, ErrReportAnswer)
	}
	a, err := match(d, thing, levels, func(s string) (string, error) { return s, nil })
	if errors.Is(err, ErrNoRoute) {
		if _, other := match(1-d, thing, levels, func(s string) (string, error) { return s, nil }); other == nil {
			err = ErrOwnEcho
			if d == Up {
				err = fmt.Errorf("%w: only the cloud publishes it", ErrNoRoute)
			}
		}
	}
	if err == nil && (root == "commands") != (levels[0] == "commands") {
		err = ErrNoRoute
	}
	if err != nil {
		return Address{}, fmt.Errorf("topic %q: %w", topic, err)
	}
	return a, nil
}

// ParseTail is the inverse of Address.Tail. Its errors don't repeat the subject: the caller has the
// whole of it.
func ParseTail(d Direction, tail string) (Address, error) {
	token, rest, ok := strings.Cut(tail, ".")
	if !ok {
		return Address{}, fmt.Errorf("%w: it ends after the Thing", ErrNoRoute)
	}
	name, err := Untoken(token)
	if err != nil {
		return Address{}, err
	}
	thing, err := ParseThing(name)
	if err != nil {
		return Address{}, err
	}
	return match(d, thing, strings.Split(rest, "."), Untoken)
}

// pattern is a route's shape: levels that are literal, and at most one that is the id. Subject
// tokens and topic levels have the same shape, only the root of the command topics differs.
type pattern struct {
	route    *Route
	literals []string // "" where the id stands
	id       int      // index of the id, -1 if none
	idName   string
	subject  spelling // after the Thing's token
	levels   spelling // of the topic, after the root
}

// spelling is a pattern as text: what stands before the id, and behind it. Without an id all stands before.
type spelling struct{ before, behind string }

// spell joins levels. One that is empty is the id.
func spell(levels []string, sep string) spelling {
	text := strings.Join(levels, sep)
	if at := slices.Index(levels, ""); at >= 0 {
		before := len(strings.Join(append(slices.Clone(levels[:at]), ""), sep))
		return spelling{text[:before], text[before:]}
	}
	return spelling{before: text}
}

var (
	byChannel = map[Channel]*Route{}
	patterns  = map[Channel]*pattern{}
	byShape   = map[shape][]*pattern{}
)

// shape is what decides first: direction, level count and first level. A job id that equals a
// literal ("get", "start-next") is never misread, because the counts differ.
type shape struct {
	direction Direction
	levels    int
	first     string
}

// The table is turned into look-up maps once, at start.
var _ = func() struct{} {
	for i := range routes {
		r := &routes[i]
		p := &pattern{route: r, id: -1}
		for j, level := range strings.Split(r.Tail, ".") {
			if strings.HasPrefix(level, "{") {
				p.id, p.idName, level = j, strings.Trim(level, "{}"), ""
			}
			p.literals = append(p.literals, level)
		}
		p.subject, p.levels = spell(p.literals, "."), spell(p.literals, "/")
		if p.literals[0] == "commands" {
			p.levels = spell(p.literals[1:], "/")
		}
		byChannel[r.Channel], patterns[r.Channel] = r, p
		s := shape{r.Direction, len(p.literals), p.literals[0]}
		byShape[s] = append(byShape[s], p)
	}
	return struct{}{}
}()

func (r *Route) pattern() *pattern { return patterns[r.Channel] }

func match(d Direction, thing Thing, levels []string, decode func(string) (string, error)) (Address, error) {
next:
	for _, p := range byShape[shape{d, len(levels), levels[0]}] {
		for i, l := range levels {
			if i != p.id && l != p.literals[i] {
				continue next
			}
		}
		a := Address{Thing: thing, Channel: p.route.Channel}
		if p.id < 0 {
			return a, nil
		}
		id, err := decode(levels[p.id])
		if err != nil {
			return Address{}, err
		}
		if err := CheckID(id); err != nil {
			return Address{}, err
		}
		a.ID = id
		return a, nil
	}
	return Address{}, ErrNoRoute
}

func (p *pattern) topic(thing, id string) string {
	root, end := "$emqx/things/", "/"
	if p.literals[0] == "commands" {
		root, end = "$emqx/commands/things/", "/executions/"
	}
	if p.id < 0 {
		id = ""
	}
	return root + thing + end + p.levels.before + id + p.levels.behind
}

// token is the id as a token; empty: there is none.
func (p *pattern) token(a Address) string {
	if p.id < 0 {
		return ""
	}
	return Token(a.ID)
}
