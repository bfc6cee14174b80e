package local

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
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
		b = appendText(b, t)
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
	r := recordReader{rest: b[1:]}
	e.received, e.stamp, e.sequence = time.Unix(0, int64(r.number())), int64(r.number()), r.number()
	e.subject, e.id, e.trace.Parent, e.trace.State = r.text(), r.text(), r.text(), r.text()
	e.payload = r.rest
	if r.short {
		return e, errEntry
	}
	return e, nil
}

// recordReader reads the numbers and texts of a record. What is behind a place that makes no sense is empty.
type recordReader struct {
	rest  []byte
	short bool // it ends too early, or makes no sense
}

func (r *recordReader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.short, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *recordReader) text() string { return string(r.bytes()) }

func (r *recordReader) bytes() []byte {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.short, n = true, 0
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// appendText is what text reads.
func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// idOf is what the journal compares: each lane has a share of the ids that it remembers.
func idOf(lane, id string) string {
	if id == "" {
		return ""
	}
	return lane + " " + id
}

// queueKey is what a lane is for: a Thing, by its token, and a kind.
type queueKey struct {
	token string
	kind  mapping.Kind
}

func keyOf(t mapping.Thing, k mapping.Kind) queueKey { return queueKey{mapping.Token(string(t)), k} }

// subjectKey reads the lane of a stored subject; space is given as "fleets.up.>". The streams take no subject of
// another kind.
func subjectKey(subject, space string) queueKey {
	token := wire.ThingToken(subject, space)
	rest := subject[min(len(space)+len(token), len(subject)):]
	name, _, _ := strings.Cut(rest, ".")
	kind, _ := mapping.ParseKind(name)
	return queueKey{token, kind}
}

// viewVersion is the first byte of a view record.
const viewVersion = 1

var errViewRecord = errors.New("the record is none of a view, or of another version")

// encodeView prints what the journal keeps of a message that a stream is to have.
//
//	version u8, stream u8, {length v, text}: subject; headers v, {length v, text}: key, value, …; payload
func encodeView(stream byte, subject string, headers wire.Headers, payload []byte) []byte {
	n := 2 + 2*binary.MaxVarintLen32 + len(subject) + len(payload)
	for _, h := range headers {
		n += 2*binary.MaxVarintLen32 + len(h.Key) + len(h.Value)
	}
	b := append(make([]byte, 0, n), viewVersion, stream)
	b = appendText(b, subject)
	b = binary.AppendUvarint(b, uint64(len(headers)))
	for _, h := range headers {
		b = appendText(appendText(b, h.Key), h.Value)
	}
	return append(b, payload...)
}

// decodeView is its inverse.
func decodeView(b []byte) (stream byte, m *nats.Msg, err error) {
	if len(b) < 2 || b[0] != viewVersion {
		return 0, nil, errViewRecord
	}
	r := recordReader{rest: b[2:]}
	m = nats.NewMsg(r.text())
	for n := r.number(); n > 0 && !r.short; n-- {
		key := r.text()
		m.Header[key] = []string{r.text()}
	}
	if m.Data = r.rest; r.short {
		err = errViewRecord
	}
	return b[1], m, err
}

// appendHPUB prints NATS's command that publishes the message of a view record, with one header more. head is room to work
// in. size is of its headers and payload.
func appendHPUB(b, head, record []byte, key, value string) (out, room []byte, size int) {
	r := recordReader{rest: record[2:]}
	subject := r.bytes()
	head = append(head, wire.HeaderLine...)
	for n := r.number(); n > 0 && !r.short; n-- {
		head = append(appendLine(head, r.bytes()), ": "...)
		head = append(appendLine(head, r.bytes()), "\r\n"...)
	}
	head = append(append(append(append(head, key...), ": "...), value...), "\r\n\r\n"...)
	b = append(appendLine(append(b, "HPUB "...), subject), ' ')
	b = append(strconv.AppendInt(b, int64(len(head)), 10), ' ')
	size = len(head) + len(r.rest)
	b = append(strconv.AppendInt(b, int64(size), 10), "\r\n"...)
	return append(append(append(b, head...), r.rest...), "\r\n"...), head[:0], size
}

// appendLine appends text that is to stay on its line, whatever is in it.
func appendLine(b, text []byte) []byte {
	at := len(b)
	b = append(b, text...)
	if bytes.IndexByte(text, '\n') < 0 && bytes.IndexByte(text, '\r') < 0 {
		return b
	}
	for i := at; i < len(b); i++ {
		if b[i] == '\n' || b[i] == '\r' {
			b[i] = ' '
		}
	}
	return b
}
