package letters

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Letter is a stored dead letter.
type Letter struct {
	ID        uint64 // the stream sequence
	Direction mapping.Direction
	Subject   string // where it is stored
	Thing     string // empty when neither header nor subject names one
	Channel   string // empty when it had no address
	Topic     string // down: where it came from; up: where it was going
	Origin    string // up: the subject that the program used
	Reason
	Received  time.Time
	Stored    time.Time
	Size      int // of the payload, in bytes
	Truncated int // how many bytes the payload had before it was cut; 0: it is whole
	Trace     bridge.Trace
	Source    string
	Payload   []byte // set by Get only
}

// Reason is why a message is dead.
type Reason struct {
	Code  string // as in Fleets-Error-Code
	Error string
}

// Parse reads a stored message.
func Parse(s mapping.Subjects, subject string, h nats.Header) (Letter, error) {
	text := func(key string) string { return wire.TextOf(h.Get(key)) }
	d := Letter{
		Subject: subject, Thing: text(wire.HeaderThing), Channel: text(wire.HeaderChannel), Topic: text(wire.HeaderTopic),
		Origin: text(wire.HeaderSubject), Reason: Reason{text(wire.HeaderErrorCode), text(wire.HeaderError)}, Source: text(wire.HeaderSource), Trace: wire.TraceOf(h),
	}
	d.Truncated, _ = strconv.Atoi(h.Get(wire.HeaderTruncated))
	base, tail := s.Prefix()+".dead.", ""
	switch {
	case strings.HasPrefix(subject, base+"up."):
		d.Direction, tail = mapping.Up, subject[len(base+"up."):]
	case strings.HasPrefix(subject, base+"down."):
		d.Direction, tail = mapping.Down, subject[len(base+"down."):]
	default:
		return d, fmt.Errorf("subject %q is no dead letter's", subject)
	}
	if d.Thing == "" {
		d.Thing = wire.ThingOf(tail)
	}
	return d, nil
}

// Print prints a dead letter as it is stored.
func Print(s mapping.Subjects, l bridge.Letter) *nats.Msg {
	tail := l.Stray
	if l.Address.Channel != "" {
		tail = l.Address.Tail()
	}
	if tail == "" {
		tail = mapping.Token(string(l.Address.Thing)) + ".-"
	}
	m := nats.NewMsg("_" + s.Prefix() + ".dead." + l.Direction.String() + "." + strayTail(tail))
	m.Data = l.Payload
	var h wire.Headers
	h.Stamp(l.Message)
	m.Header = h.NATS()
	if t := wire.ThingOf(tail); l.Address.Thing == "" && t != "" {
		m.Header.Set(wire.HeaderThing, wire.HeaderText(t))
	}
	m.Header.Set(wire.HeaderErrorCode, wire.HeaderText(wire.OneLine(string(l.Rejection.Code), wire.MaxErrorText)))
	m.Header.Set(wire.HeaderError, wire.HeaderText(errorLine(l.Rejection)))
	if l.Direction == mapping.Up {
		if l.Origin != "" {
			m.Header.Set(wire.HeaderSubject, wire.HeaderText(wire.OneLine(l.Origin, wire.MaxLine)))
		}
		if l.Address.Channel != "" {
			m.Header.Set(wire.HeaderTopic, wire.HeaderText(wire.OneLine(l.Address.Topic(), wire.MaxLine)))
		}
	} else if l.Origin != "" {
		m.Header.Set(wire.HeaderTopic, wire.HeaderText(wire.OneLine(l.Origin, wire.MaxLine)))
	}
	return m
}

// errorLine is the reason with every pointer that it doesn't name itself.
func errorLine(r *bridge.Rejection) string {
	line := r.Reason
	for _, d := range r.Details {
		if strings.Contains(line, d.Message) && strings.Contains(line, d.Pointer) {
			continue
		}
		pointer := d.Pointer
		if pointer == "" {
			pointer = "payload"
		}
		line += "; " + pointer + ": " + d.Message
		if len(line) > wire.MaxErrorText {
			break
		}
	}
	if line = wire.OneLine(line, wire.MaxErrorText); line == "" {
		return "no reason given"
	}
	return line
}

// maxTail bounds the subject of a dead letter: the server ends a connection whose protocol line is
// longer than 4 KiB.
const maxTail = 2048

// strayTail makes a subject of what may be none: tokens that NATS would read as wildcards are escaped,
// and a tail that is too long ends in "=cut".
func strayTail(tail string) string {
	var out []string
	length := 0
	for token := range strings.SplitSeq(tail, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == '*' || r == '>' || r == 0x7f }) {
			token = mapping.Token(max(token, " "))
		}
		if length += len(token) + 1; length > maxTail {
			return strings.Join(append(out, "=cut"), ".")
		}
		out = append(out, token)
	}
	return strings.Join(out, ".")
}
