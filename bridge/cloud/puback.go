package cloud

import "fmt"

// answer is a PUBACK's.
type answer struct {
	code byte
	text string // the broker's own words
}

// finalCodes are the PUBACK codes that no retry mends: the message is a dead letter. Below 0x80 is success, 0x10 (no
// matching subscribers) too: the broker's rules are no subscribers. What any other code means is seen by what else is
// accepted.
var finalCodes = map[byte]bool{0x90: true, 0x95: true, 0x99: true}

func finalCode(r *refusal) bool { return !r.fatal && finalCodes[r.code] }

func (a answer) refusal() *refusal {
	s := fmt.Sprintf("the broker refused it: 0x%02X %s", a.code, reason(inPuback, a.code))
	if a.text != "" {
		s += quoted(a.text)
	}
	return &refusal{code: a.code, words: s}
}

// brokerError is a CONNACK or DISCONNECT with a reason.
type brokerError struct {
	packet    string
	code      byte
	text      string // the broker's own words
	reference string // of another server
}

func (e *brokerError) Error() string {
	s := fmt.Sprintf("%s 0x%02X %s", e.packet, e.code, reason(e.packet, e.code))
	if e.text != "" {
		s += quoted(e.text)
	}
	if e.reference != "" {
		s += fmt.Sprintf("; it names %q: set mqtt.server to it", shorten(e.reference))
	}
	return s
}

// accuses reports whether the code of a DISCONNECT may be about a packet that the broker was sent.
func (e *brokerError) accuses() bool {
	switch e.code {
	case 0x80, 0x81, 0x82, 0x83, 0x87, 0x90, 0x94, 0x95, 0x99:
		return true
	}
	return false
}

// drains reports whether the broker sends its clients to another server.
func (e *brokerError) drains() bool {
	switch e.code {
	case 0x88, 0x89, 0x8B, 0x9C, 0x9D:
		return true
	}
	return false
}

const takenOver = 0x8E

// shorten keeps foreign text from flooding a log line.
func shorten(s string) string {
	const most = 200
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	return string(runes[:most]) + "…"
}
