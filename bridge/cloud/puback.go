package cloud

import (
	"fmt"

	"fleetbridge/bridge"
)

// verdict is what a PUBACK means for its message.
type verdict uint8

const (
	taken   verdict = iota // the broker has it
	refused                // it never will
	retry                  // not now
)

// refusals are the PUBACK codes that no retry mends: the message is a dead letter.
var refusals = map[byte]string{
	0x87: "not authorised: allow the client to publish there",
	0x90: "topic name invalid",
	0x95: "packet too large",
	0x99: "payload format invalid",
}

// pubackVerdict classifies a PUBACK's code. Below 0x80 is success, 0x10 (no matching subscribers) too:
// the broker's rules are no subscribers. Quotas (0x97) and every code not listed pass with time.
func pubackVerdict(code byte) verdict {
	switch {
	case code < 0x80:
		return taken
	case refusals[code] != "":
		return refused
	}
	return retry
}

func refusal(topic string, code byte) *bridge.Rejection {
	return bridge.Rejectf(bridge.CodeRefused, "topic %q: the broker refused it: 0x%02X %s", topic, code, refusals[code])
}

// reasons names the MQTT 5 reason codes that a broker may send, with the mend where there is one.
var reasons = map[byte]string{
	0x80: "unspecified error",
	0x81: "malformed packet",
	0x82: "protocol error",
	0x83: "implementation specific error",
	0x84: "unsupported protocol version: the broker must speak MQTT 5",
	0x85: "client id not valid: check things[].client_id",
	0x86: "bad user name or password: check things[].username and things[].password",
	0x87: "not authorised: check things[].username/password",
	0x88: "server unavailable",
	0x89: "server busy",
	0x8A: "banned: the broker's administrator blocked the client",
	0x8B: "server shutting down",
	0x8C: "bad authentication method",
	0x8D: "keep-alive timeout",
	0x8E: "session taken over",
	0x8F: "topic filter invalid",
	0x90: "topic name invalid",
	0x91: "packet identifier in use",
	0x93: "receive maximum exceeded",
	0x94: "topic alias invalid",
	0x95: "packet too large",
	0x96: "message rate too high",
	0x97: "quota exceeded",
	0x98: "administrative action",
	0x99: "payload format invalid",
	0x9A: "retain not supported",
	0x9B: "QoS not supported",
	0x9C: "use another server",
	0x9D: "server moved",
	0x9E: "shared subscriptions not supported",
	0x9F: "connection rate exceeded",
	0xA0: "maximum connect time",
	0xA1: "subscription identifiers not supported",
	0xA2: "wildcard subscriptions not supported",
}

// brokerError is a CONNACK or DISCONNECT with a reason.
type brokerError struct {
	packet    string
	code      byte
	text      string // the broker's own words
	reference string // of another server
}

func (e *brokerError) Error() string {
	s := fmt.Sprintf("%s 0x%02X", e.packet, e.code)
	if name := reasons[e.code]; name != "" {
		s += " " + name
	}
	if e.text != "" {
		s += fmt.Sprintf(" (%q)", shorten(e.text))
	}
	if e.reference != "" {
		s += fmt.Sprintf("; it names %q: set mqtt.server to it", shorten(e.reference))
	}
	return s
}

// accuses tells whether the broker closed the connection over a packet that it was sent.
func (e *brokerError) accuses() bool {
	switch e.code {
	case 0x81, 0x82, 0x87, 0x90, 0x95, 0x99:
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
