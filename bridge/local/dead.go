package local

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Bury is bridge.Graveyard: done(nil) follows when the letter is stored. The payload stays as it was,
// unless NATS can't carry it: then it is cut. Fleets-Truncated says how long a payload was of which only the
// head is there.
func (s *Store) Bury(ctx context.Context, l bridge.Letter, done func(error)) error {
	m := s.letter(l)
	whole := max(l.Size, len(m.Data))
	if room := s.largest() - wire.Size(m) + len(m.Data) - groupRoom; len(m.Data) > room {
		m.Data = m.Data[:max(room-len(wire.HeaderTruncated)-24, 0)]
	}
	if len(m.Data) < whole {
		m.Header.Set(wire.HeaderTruncated, strconv.Itoa(whole))
	}
	n := s.shares.weight(len(m.Subject)+wire.Size(m), len(m.Subject))
	if err := s.shares.admit(ctx, thingOfTail(strings.TrimPrefix(m.Subject, wire.Internal(s.cfg.Subjects.Prefix()+".dead."))), n); err != nil {
		return err
	}
	arrived := func() { s.shares.arrived(n) }
	var err error
	if s.spool != nil {
		err = s.spool.views.dead.send(ctx, &charge{msg: m, done: done, stored: arrived})
	} else {
		err = s.toDead.send(ctx, m, func(err error) {
			arrived()
			done(err)
		})
	}
	if err != nil {
		arrived()
	}
	return err
}

// largest is how many bytes a message may have, with its headers.
func (s *Store) largest() int {
	most := s.nc.MaxPayload()
	if s.spool != nil {
		most = min(most, s.spool.journal.LargestGroup()-wire.Headroom)
	}
	return int(most)
}

func (s *Store) letter(l bridge.Letter) *nats.Msg {
	tail := l.Stray
	if l.Address.Channel != "" {
		tail = l.Address.Tail()
	}
	if tail == "" {
		tail = mapping.Token(string(l.Address.Thing)) + ".-"
	}
	m := nats.NewMsg("_" + s.cfg.Subjects.Prefix() + ".dead." + l.Direction.String() + "." + strayTail(tail))
	m.Data = l.Payload
	wire.Stamp(m.Header, l.Message)
	if t := thingOf(tail); l.Address.Thing == "" && t != "" {
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

// thingOf reads the Thing at the beginning of a dead letter's tail; empty: there is none.
func thingOf(tail string) string {
	token, _, _ := strings.Cut(tail, ".")
	name, err := mapping.Untoken(token)
	if err != nil {
		return ""
	}
	if _, err := mapping.ParseThing(name); err != nil {
		return ""
	}
	return name
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

// DeadLetter is a stored dead letter.
type DeadLetter struct {
	ID        uint64 // the stream sequence
	Direction mapping.Direction
	Subject   string // where it is stored
	Thing     string // empty when neither header nor subject names one
	Channel   string // empty when it had no address
	Topic     string // down: where it came from; up: where it was going
	Origin    string // up: the subject that the program used
	Code      string
	Error     string
	Received  time.Time
	Stored    time.Time
	Size      int // of the payload, in bytes
	Truncated int // how many bytes the payload had before it was cut; 0: it is whole
	Trace     bridge.Trace
	Source    string
	Payload   []byte // set by Get only
}

// parseLetter reads a stored message.
func parseLetter(s mapping.Subjects, subject string, h nats.Header) (DeadLetter, error) {
	text := func(key string) string { return wire.TextOf(h.Get(key)) }
	d := DeadLetter{
		Subject: subject, Thing: text(wire.HeaderThing), Channel: text(wire.HeaderChannel), Topic: text(wire.HeaderTopic),
		Origin: text(wire.HeaderSubject), Code: text(wire.HeaderErrorCode), Error: text(wire.HeaderError), Source: text(wire.HeaderSource), Trace: wire.TraceOf(h),
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
		d.Thing = thingOf(tail)
	}
	return d, nil
}
