package local

import (
	"encoding/binary"
	"errors"
	"time"

	"fleetbridge/bridge"
)

// entry is a message on its way up, as a journal keeps it.
type entry struct {
	subject  string
	received time.Time
	stamp    int64  // see bridge.Message.Stamp
	sequence uint64 // that it had in the stream of an older version; 0: the journal numbers it
	id       string // the message id, as it is compared; empty: none
	trace    bridge.Trace
	payload  []byte
}

// entryVersion is the first byte of an entry.
const entryVersion = 1

var errEntry = errors.New("the record is none of a message, or of another version")

// encode makes one piece of the entry, in which its payload lies from then on.
//
//	version u8, received v (Unix ns), stamp v, sequence v, {length v, text}: subject, id, traceparent, tracestate; payload
func (e *entry) encode() []byte {
	texts := [...]string{e.subject, e.id, e.trace.Parent, e.trace.State}
	n := 1 + 3*binary.MaxVarintLen64 + len(e.payload)
	for _, t := range texts {
		n += binary.MaxVarintLen32 + len(t)
	}
	b := append(make([]byte, 0, n), entryVersion)
	for _, v := range [...]uint64{uint64(e.received.UnixNano()), uint64(e.stamp), e.sequence} {
		b = binary.AppendUvarint(b, v)
	}
	for _, t := range texts {
		b = append(binary.AppendUvarint(b, uint64(len(t))), t...)
	}
	head := len(b)
	b = append(b, e.payload...)
	e.payload = b[head:]
	return b
}

// decodeEntry is the inverse of encode.
func decodeEntry(b []byte) (e entry, err error) {
	if len(b) == 0 || b[0] != entryVersion {
		return entry{}, errEntry
	}
	b = b[1:]
	number := func() (v uint64) {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err, b = errEntry, nil
			return 0
		}
		b = b[n:]
		return v
	}
	text := func() string {
		n := number()
		if n > uint64(len(b)) {
			err, n = errEntry, 0
		}
		t := string(b[:n])
		b = b[n:]
		return t
	}
	e.received, e.stamp, e.sequence = time.Unix(0, int64(number())), int64(number()), number()
	e.subject, e.id, e.trace.Parent, e.trace.State = text(), text(), text(), text()
	e.payload = b
	return e, err
}

// idOf is what the journal compares: each lane has a share of the ids that it remembers.
func idOf(lane, id string) string {
	if id == "" {
		return ""
	}
	return lane + " " + id
}
