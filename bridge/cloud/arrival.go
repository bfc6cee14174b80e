package cloud

import (
	"encoding/binary"
	"fmt"
	"io"

	"fleetbridge/bridge"
)

// arrival is a PUBLISH that has come, as far as it is kept. Messages are read here and not by paho, because
// what a hostile broker sends must cost no more memory than what is kept of it: of a payload the head, of
// its properties the trace.
type arrival struct {
	first   byte // with the flags
	id      uint16
	topic   string
	alias   uint16 // 0: none
	payload []byte
	size    int // bytes that the payload had
	trace   bridge.Trace
}

func (a *arrival) qos() byte    { return a.first >> 1 & 3 }
func (a *arrival) dup() bool    { return a.first&duplicateFlag != 0 }
func (a *arrival) retain() bool { return a.first&1 != 0 }

// body is what is still to come of a packet.
type body struct {
	from io.Reader
	left int
	two  [2]byte
}

// mistake is what the broker did wrong, and the code of the DISCONNECT that it gets for it.
type mistake struct {
	code byte
	text string
}

func (m *mistake) Error() string { return m.text }

func malformed(format string, args ...any) error {
	return &mistake{malformedPacket, "malformed PUBLISH: " + fmt.Sprintf(format, args...)}
}

// Codes that we send.
const (
	malformedPacket   = 0x81
	topicAliasInvalid = 0x94
)

var errShort = malformed("something in it is longer than the packet")

// maxTopic is how many bytes of a topic are kept: no legal one has half as many, and a dead letter shows no more.
const maxTopic = 4 << 10

// keptHead is how many bytes are kept of a payload that is too large: enough to see what it was.
const keptHead = 16 << 10

// readArrival reads what follows the length of a PUBLISH. A payload of more than largest bytes is not kept, but for
// its head.
func readArrival(first byte, b *body, largest int) (arrival, error) {
	a := arrival{first: first}
	topic, err := b.text(maxTopic)
	if err != nil {
		return a, err
	}
	a.topic = topic
	if a.qos() > 0 {
		if a.id, err = b.uint16(); err != nil {
			return a, err
		}
	}
	if a.qos() == 3 || a.qos() > 0 && a.id == 0 {
		return a, malformed("QoS %d, packet identifier %d", a.qos(), a.id)
	}
	length, err := b.varint()
	if err != nil {
		return a, err
	}
	if length > b.left {
		return a, errShort
	}
	payload := b.left - length
	for b.left > payload {
		if err := a.property(b); err != nil {
			return a, err
		}
	}
	if b.left < payload {
		return a, errShort
	}
	a.size = payload
	if payload > largest {
		payload = min(keptHead, largest)
	}
	a.payload = make([]byte, payload)
	if err := b.fill(a.payload); err != nil {
		return a, err
	}
	return a, b.skip(b.left)
}

// Properties of a PUBLISH.
const (
	payloadFormat          = 1
	messageExpiry          = 2
	contentType            = 3
	responseTopic          = 8
	correlationData        = 9
	subscriptionIdentifier = 11
	topicAlias             = 35
)

func (a *arrival) property(b *body) error {
	kind, err := b.byte()
	if err != nil {
		return err
	}
	switch kind {
	case payloadFormat:
		return b.skip(1)
	case messageExpiry:
		return b.skip(4)
	case contentType, responseTopic, correlationData:
		return b.skipText()
	case subscriptionIdentifier:
		_, err = b.varint()
		return err
	case topicAlias:
		if a.alias, err = b.uint16(); err == nil && a.alias == 0 {
			err = &mistake{topicAliasInvalid, "PUBLISH with the topic alias 0, which there is not"}
		}
		return err
	case userProperty:
		return a.userProperty(b)
	}
	return malformed("unknown property 0x%02X", kind)
}

// userProperty keeps the first of each key of the trace, if it could be passed on, and nothing else.
func (a *arrival) userProperty(b *body) error {
	n, err := b.uint16()
	if err != nil {
		return err
	}
	var to *string
	if int(n) == len(traceParent) || int(n) == len(traceState) {
		var key [len(traceParent)]byte
		if err := b.fill(key[:n]); err != nil {
			return err
		}
		switch string(key[:n]) {
		case traceParent:
			to = &a.trace.Parent
		case traceState:
			to = &a.trace.State
		}
	} else if err := b.skip(int(n)); err != nil {
		return err
	}
	if to == nil || *to != "" {
		return b.skipText()
	}
	if n, err = b.uint16(); err != nil {
		return err
	}
	if n > maxTrace {
		return b.skip(int(n))
	}
	value := make([]byte, n)
	if err := b.fill(value); err != nil {
		return err
	}
	if sendable(string(value)) {
		*to = string(value)
	}
	return nil
}

func (b *body) fill(p []byte) error {
	if len(p) > b.left {
		return errShort
	}
	b.left -= len(p)
	_, err := io.ReadFull(b.from, p)
	return err
}

func (b *body) skip(n int) error {
	if n > b.left {
		return errShort
	}
	if n == 0 {
		return nil
	}
	b.left -= n
	_, err := io.CopyN(io.Discard, b.from, int64(n))
	return err
}

func (b *body) byte() (byte, error) {
	err := b.fill(b.two[:1])
	return b.two[0], err
}

func (b *body) uint16() (uint16, error) {
	err := b.fill(b.two[:])
	return binary.BigEndian.Uint16(b.two[:]), err
}

// text reads a string and keeps at most the first keep bytes of it.
func (b *body) text(keep int) (string, error) {
	n, err := b.uint16()
	if err != nil {
		return "", err
	}
	if int(n) > b.left {
		return "", errShort
	}
	p := make([]byte, min(int(n), keep))
	if err := b.fill(p); err != nil {
		return "", err
	}
	return string(p), b.skip(int(n) - len(p))
}

func (b *body) skipText() error {
	n, err := b.uint16()
	if err != nil {
		return err
	}
	return b.skip(int(n))
}

func (b *body) varint() (int, error) {
	n := 0
	for i := range 4 {
		c, err := b.byte()
		if err != nil {
			return 0, err
		}
		n |= int(c&0x7F) << (7 * i)
		if c&0x80 == 0 {
			return n, nil
		}
	}
	return 0, malformed("a length has more than four bytes")
}
