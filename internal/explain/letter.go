package explain

import (
	"time"
	"unicode/utf8"

	"fleetbridge/bridge/local/letters"
	"fleetbridge/mapping"
)

// Payload is one as a member of a JSON object: text, or base64 if it is no UTF-8. Bytes is its length; with Cut there is
// only its head.
type Payload struct {
	Bytes  int     `json:"bytes"`
	Cut    bool    `json:"cut,omitempty"`
	Text   *string `json:"payload,omitempty"`
	Base64 []byte  `json:"payloadBase64,omitempty"`
}

// NewPayload takes the first bytes of a payload, so many at most; 0: all of it.
func NewPayload(b []byte, most int) Payload {
	p := Payload{Bytes: len(b)}
	if most > 0 && len(b) > most {
		p.Cut = true
		for b = b[:most]; len(b) > most-utf8.UTFMax && !utf8.Valid(b); {
			b = b[:len(b)-1]
		}
	}
	if text := string(b); utf8.ValidString(text) {
		p.Text = &text
	} else {
		p.Base64 = b
	}
	return p
}

// Letter is a dead letter as a JSON object. Its form is stable: fields are added, not renamed.
type Letter struct {
	ID        uint64    `json:"id"`
	Direction string    `json:"direction"`
	Thing     string    `json:"thing"`
	Token     string    `json:"token,omitempty"` // of the Thing, as in subjects
	Channel   string    `json:"channel"`
	Code      string    `json:"code"`
	Error     string    `json:"error"`
	Received  time.Time `json:"received"`
	Stored    time.Time `json:"stored"`
	Topic     string    `json:"topic,omitempty"`
	Subject   string    `json:"subject,omitempty"`
	StoredOn  string    `json:"storedOn"`
	Parent    string    `json:"traceparent,omitempty"`
	Truncated int       `json:"truncated,omitempty"` // how long the payload was of which only the head is kept
	Payload
}

// NewLetter leaves the payload out, but for its length.
func NewLetter(l letters.Letter) Letter {
	out := Letter{ID: l.ID, Direction: l.Direction.String(), Thing: l.Thing, Channel: l.Channel, Code: l.Code, Error: l.Error, Received: l.Received.UTC(), Stored: l.Stored.UTC(),
		Topic: l.Topic, Subject: l.Origin, StoredOn: l.Subject, Parent: l.Trace.Parent, Truncated: l.Truncated, Payload: Payload{Bytes: l.Size}}
	if l.Thing != "" {
		out.Token = mapping.Token(l.Thing)
	}
	return out
}
