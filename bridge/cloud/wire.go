package cloud

import (
	"encoding/binary"
	"unicode"
	"unicode/utf8"

	"fleetbridge/bridge"
)

// The packets that are written by the thousand are spelled here, without an allocation each.

// First bytes of packets.
const (
	publishAtMostOnce  = 0x30
	publishAtLeastOnce = 0x32
	duplicateFlag      = 0x08
	pubackByte         = 0x40
	pubrecByte         = 0x50
	pubcompByte        = 0x70
	pingreqByte        = 0xC0
	disconnectByte     = 0xE0
	authByte           = 0xF0
)

// Properties.
const (
	userProperty  = 38 // key and value, UTF-8 strings
	sessionExpiry = 17 // seconds, four bytes
)

const (
	traceParent = "traceparent"
	traceState  = "tracestate"
	maxTrace    = 1 << 12 // bytes of a value; the W3C asks for 512
)

// appendPublish spells the message as an MQTT 5 PUBLISH, never retained.
func appendPublish(b []byte, e *entry, id uint16, dup bool) []byte {
	first := byte(publishAtLeastOnce)
	if id == 0 {
		first = publishAtMostOnce
	} else if dup {
		first |= duplicateFlag
	}
	properties := traceSize(e.message.Trace)
	remaining := 2 + len(e.topic) + varintSize(properties) + properties + len(e.message.Payload)
	if id != 0 {
		remaining += 2
	}
	b = appendVarint(append(b, first), remaining)
	b = appendString(b, e.topic)
	if id != 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	b = appendVarint(b, properties)
	b = appendProperty(b, traceParent, e.message.Trace.Parent)
	b = appendProperty(b, traceState, e.message.Trace.State)
	return append(b, e.message.Payload...)
}

// publishSize is the number of bytes that appendPublish makes with an identifier.
func publishSize(e *entry) int {
	properties := traceSize(e.message.Trace)
	remaining := 4 + len(e.topic) + varintSize(properties) + properties + len(e.message.Payload)
	return 1 + varintSize(remaining) + remaining
}

// appendAck spells a PUBACK, PUBREC or PUBCOMP of success.
func appendAck(b []byte, first byte, id uint16) []byte {
	return binary.BigEndian.AppendUint16(append(b, first, 2), id)
}

// appendDisconnect spells DISCONNECT 0x00, with a Session Expiry Interval of 0 if the session is to end.
func appendDisconnect(b []byte, end bool) []byte {
	if !end {
		return append(b, disconnectByte, 2, 0, 0)
	}
	return append(b, disconnectByte, 7, 0, 5, sessionExpiry, 0, 0, 0, 0)
}

// appendGoodbye spells a DISCONNECT with the reason for which we hang up.
func appendGoodbye(b []byte, code byte) []byte { return append(b, disconnectByte, 1, code) }

// traceSize is the number of bytes of the trace's user properties.
func traceSize(t bridge.Trace) int {
	n := 0
	for _, p := range [...][2]string{{traceParent, t.Parent}, {traceState, t.State}} {
		if sendable(p[1]) {
			n += 1 + 2 + len(p[0]) + 2 + len(p[1])
		}
	}
	return n
}

func appendProperty(b []byte, key, value string) []byte {
	if !sendable(value) {
		return b
	}
	return appendString(appendString(append(b, userProperty), key), value)
}

// sendable reports whether a trace value may stand in a packet. A broker closes the connection over a
// string that is no MQTT string, again at every resend, so such a value is left out.
func sendable(value string) bool {
	if value == "" || len(value) > maxTrace || !utf8.ValidString(value) {
		return false
	}
	for _, r := range value {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendVarint(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func varintSize(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}
