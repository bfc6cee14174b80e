package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Packets by their first byte, without flags where a packet has them.
const (
	connect     = 0x10
	connack     = 0x20
	publish     = 0x30
	puback      = 0x40
	subscribe   = 0x82
	suback      = 0x90
	unsubscribe = 0xA2
	unsuback    = 0xB0
	pingreq     = 0xC0
	pingresp    = 0xD0
	disconnect  = 0xE0
)

const (
	qos1           = 0x02 // flag of PUBLISH
	receiveMaximum = 0x21 // property
	maxPacket      = 16 << 20
)

// next reads one packet. Its body is valid until the next call.
func next(in *bufio.Reader, scratch []byte) (first byte, body, grown []byte, err error) {
	if first, err = in.ReadByte(); err != nil {
		return 0, nil, scratch, err
	}
	size, err := readVarint(in)
	if err != nil {
		return 0, nil, scratch, err
	}
	if size > maxPacket {
		return 0, nil, scratch, fmt.Errorf("packet of %d bytes", size)
	}
	if size <= in.Size() {
		if body, err = in.Peek(size); err == nil {
			_, err = in.Discard(size) // what Peek returned stays where it is until the next read
		}
		return first, body, scratch, err
	}
	if cap(scratch) < size {
		scratch = make([]byte, size)
	}
	scratch = scratch[:size]
	_, err = io.ReadFull(in, scratch)
	return first, scratch, scratch, err
}

func readVarint(in *bufio.Reader) (int, error) {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		c, err := in.ReadByte()
		if err != nil {
			return 0, err
		}
		n |= int(c&0x7F) << shift
		if c&0x80 == 0 {
			return n, nil
		}
	}
	return 0, errMalformed
}

var errMalformed = errors.New("malformed packet")

// reader takes a packet's body apart. After a failure everything it returns is empty.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.failed = nil, true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) string() []byte { return r.take(int(r.uint16())) }

// properties are the bytes of the properties.
func (r *reader) properties() []byte {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		c := r.byte()
		n |= int(c&0x7F) << shift
		if c&0x80 == 0 {
			break
		}
	}
	return r.take(n)
}

// property finds a property of two bytes among those that CONNECT and CONNACK may have.
func property(b []byte, id byte) (uint16, bool) {
	for r := (reader{b: b}); len(r.b) > 0 && !r.failed; {
		switch p := r.byte(); p {
		case 0x21, 0x22, 0x13: // two bytes
			v := r.uint16()
			if p == id {
				return v, true
			}
		case 0x11, 0x27: // four
			r.take(4)
		case 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A: // one
			r.take(1)
		case 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F: // a string, or bytes
			r.string()
		case 0x26: // a pair of strings
			r.string()
			r.string()
		default:
			return 0, false
		}
	}
	return 0, false
}

func appendVarint(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendPacket(b []byte, first byte, body []byte) []byte {
	return append(appendVarint(append(b, first), len(body)), body...)
}

// appendPublish spells a PUBLISH of QoS 1 without properties.
func appendPublish(b []byte, topic string, id uint16, payload []byte) []byte {
	b = appendVarint(append(b, publish|qos1), 2+len(topic)+2+1+len(payload))
	b = binary.BigEndian.AppendUint16(appendString(b, topic), id)
	return append(append(b, 0), payload...)
}
