package local

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// On an external server programs publish into the streams themselves, with header blocks of any bytes. The server appends
// to a block what it knows of a message: sequence, subject, time. To nats.go a block ends at its first empty line, so a
// program can write those itself and hide the server's. What may be hidden is not believed: the leader is asked for the
// message, and says in JSON what no header can change.

// errObscured says that a message may have more headers than can be read.
var errObscured = errors.New("the headers hide what the server has written behind them")

// storedMessage reads what a server sends of a stored message: republished, or got. A program may have set such headers,
// too; the server's own come behind them.
func storedMessage(m *nats.Msg) (number uint64, at time.Time, e *entry, err error) {
	if wire.Obscured(m, wire.ServersLeast) {
		return 0, at, nil, errObscured
	}
	if number, err = strconv.ParseUint(lastOf(m.Header, jetstream.SequenceHeader), 10, 64); err != nil {
		return 0, at, nil, err
	}
	if at, err = time.Parse(time.RFC3339Nano, lastOf(m.Header, jetstream.TimeStampHeaer)); err != nil {
		return 0, at, nil, err
	}
	return number, at, &entry{subject: lastOf(m.Header, jetstream.SubjectHeader), received: at, trace: wire.TraceOf(m.Header), payload: m.Data}, nil
}

func lastOf(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// stored reads the first message of a class from a sequence on, of a subject.
func (s *Store) stored(ctx context.Context, class mapping.Class, from uint64, subject string) (*jetstream.RawStreamMsg, error) {
	return streams.Get(ctx, s.nc, s.up[class].CachedInfo().Config.Name, streams.Ask{From: from, Next: subject})
}
