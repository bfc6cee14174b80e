package sightings

import (
	"strings"
	"time"
	"unicode/utf8"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// Bounds of what is kept of one sighting.
const (
	maxPayload = 4 << 10
	maxText    = 1 << 10
)

// Record is a sighting as it is kept and printed. A payload that is no UTF-8 is base64; Cut: it was longer.
type Record struct {
	At        time.Time      `json:"at"`
	Outcome   bridge.Outcome `json:"outcome"`
	Direction string         `json:"direction,omitempty"`
	Thing     string         `json:"thing,omitempty"`
	Channel   string         `json:"channel,omitempty"`
	ID        string         `json:"id,omitempty"`
	Code      string         `json:"code,omitempty"`
	Reason    string         `json:"reason,omitempty"`
	TookMS    float64        `json:"tookMs,omitempty"`
	Bytes     int            `json:"bytes"`
	Origin    string         `json:"origin,omitempty"`
	Sequence  uint64         `json:"sequence,omitempty"`
	Parent    string         `json:"traceparent,omitempty"`
	Cut       bool           `json:"cut,omitempty"`
	Payload   *string        `json:"payload,omitempty"`
	Base64    []byte         `json:"payloadBase64,omitempty"`

	number uint64
	size   int
}

// newRecord copies what is kept of a sighting.
func newRecord(s *bridge.Sighting) *Record {
	r := &Record{At: s.At, Outcome: s.Outcome, Direction: direction(s), Thing: text(string(s.Address.Thing)), Channel: string(s.Address.Channel),
		ID: text(s.Address.ID), Code: text(s.Code), Reason: text(s.Reason), TookMS: float64(s.Took.Microseconds()) / 1000, Bytes: max(s.Size, len(s.Payload)),
		Origin: text(s.Origin), Sequence: s.Sequence, Parent: text(s.Trace.Parent)}
	head := s.Payload[:min(len(s.Payload), maxPayload)]
	r.Cut = len(head) < r.Bytes
	if whole := string(cutRune(head, r.Cut)); utf8.ValidString(whole) {
		r.Payload = &whole
	} else {
		r.Base64 = []byte(string(head))
	}
	const overhead = 400 // of the record itself
	r.size = overhead + len(head) + len(r.Thing) + len(r.ID) + len(r.Code) + len(r.Reason) + len(r.Origin) + len(r.Parent)
	return r
}

// Head is what is kept of the payload.
func (r *Record) Head() string {
	if r.Payload != nil {
		return *r.Payload
	}
	return string(r.Base64)
}

// direction is empty for what has none.
func direction(s *bridge.Sighting) string {
	if s.Outcome == bridge.Connected || s.Outcome == bridge.Disconnected {
		return ""
	}
	return s.Direction.String()
}

// text shortens a text. The result is a copy, so that the whole text can be freed.
func text(s string) string {
	if len(s) > maxText {
		s = string(cutRune([]byte(s[:maxText]), true))
	}
	return strings.Clone(s)
}

// cutRune takes away the beginning of a character that was cut.
func cutRune(b []byte, cut bool) []byte {
	for i := 1; cut && i < utf8.UTFMax && i <= len(b); i++ {
		if tail := b[len(b)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return b[:len(b)-i]
			}
			break
		}
	}
	return b
}

// channelsSeen lists every channel that a record can have.
func channelsSeen() (out []mapping.Channel) {
	for _, r := range mapping.Routes() {
		out = append(out, r.Channel)
	}
	return append(out, bridge.ShadowGet)
}

// Channels lists every channel that a record can have.
var Channels = channelsSeen()
