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
	b = appendText(b, m.Subject)
	b = binary.AppendUvarint(b, uint64(len(m.Header)))
	for key, values := range m.Header { // the bridge's own have one value each
		b = appendText(appendText(b, key), values[0])
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
