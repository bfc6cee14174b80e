package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
	return getStored(ctx, s.nc, s.up[class].CachedInfo().Config.Name, storedAsk{From: from, Next: subject})
}

// storedAsk asks for the first message from a sequence on, of a subject, or for the last one of a subject.
type storedAsk struct {
	From uint64 `json:"seq,omitempty"`
	Next string `json:"next_by_subj,omitempty"`
	Last string `json:"last_by_subj,omitempty"`
}

// getStored reads a message of a stream as the leader has it. One whose headers can't be read comes without them. The
// library does neither: it reads from any replica, whose answers are headers, and gives an error for what it can't read.
func getStored(ctx context.Context, nc *nats.Conn, stream string, ask storedAsk) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, wire.APITimeout)
	defer cancel()
	request, _ := json.Marshal(ask)
	answer, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, request)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", stream, err)
	}
	var got struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return nil, fmt.Errorf("stream %s: %w", stream, err)
	}
	switch m := got.Message; {
	case got.Error == nil:
		h, _ := nats.DecodeHeadersMsg(m.Header)
		return &jetstream.RawStreamMsg{Subject: m.Subject, Sequence: m.Sequence, Header: h, Data: m.Data, Time: m.Time}, nil
	case got.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, jetstream.ErrMsgNotFound
	}
	return nil, got.Error
}
