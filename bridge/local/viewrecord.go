package local

import (
	"encoding/binary"
	"errors"

	"github.com/nats-io/nats.go"
)

// viewVersion is the first byte of a view record.
const viewVersion = 1

var errViewRecord = errors.New("the record is none of a view, or of another version")

// encodeView prints what the journal keeps of a message that a stream is to have. The message's payload lies in it from then
// on.
//
//	version u8, stream u8, {length v, text}: subject; headers v, {length v, text}: key, value, …; payload
func encodeView(stream byte, m *nats.Msg) []byte {
	n := 2 + 2*binary.MaxVarintLen32 + len(m.Subject) + len(m.Data)
	for key, values := range m.Header {
		n += 2*binary.MaxVarintLen32 + len(key) + len(values[0])
	}
	b := append(make([]byte, 0, n), viewVersion, stream)
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	text(m.Subject)
	b = binary.AppendUvarint(b, uint64(len(m.Header)))
	for key, values := range m.Header { // the bridge's own have one value each
		text(key)
		text(values[0])
	}
	head := len(b)
	b = append(b, m.Data...)
	m.Data = b[head:]
	return b
}

// decodeView is its inverse.
func decodeView(b []byte) (stream byte, m *nats.Msg, err error) {
	if len(b) < 2 || b[0] != viewVersion {
		return 0, nil, errViewRecord
	}
	stream, b = b[1], b[2:]
	number := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err, b = errViewRecord, nil
			return 0
		}
		b = b[n:]
		return v
	}
	text := func() string {
		n := number()
		if n > uint64(len(b)) {
			err, n = errViewRecord, 0
		}
		s := string(b[:n])
		b = b[n:]
		return s
	}
	m = nats.NewMsg(text())
	for n := number(); n > 0 && err == nil; n-- {
		key := text()
		m.Header[key] = []string{text()}
	}
	m.Data = b
	return stream, m, err
}
