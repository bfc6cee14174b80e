package streams

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
)

// A group is stored whole or not at all: it goes as an atomic batch, for which the server syncs the disk
// once. A message that is alone goes as it is.
const (
	GroupMax   = 1000    // messages a group; the server takes no more
	GroupBytes = 4 << 20 // payloads of a group, and one message more
)

// Commit puts a group on the wire and returns what it was answered. id is no other group's. The messages'
// headers are changed.
func Commit(ctx context.Context, nc *nats.Conn, group []*nats.Msg, id string) (*nats.Msg, error) {
	last := len(group) - 1
	if last == 0 {
		unbatch(group[0])
		return nc.RequestMsgWithContext(ctx, group[0])
	}
	batch := []string{id} // one value for all: nobody changes it
	for i, m := range group {
		if m.Header == nil {
			m.Header = make(nats.Header, 3)
		}
		m.Header[wire.HeaderBatchID] = batch
		m.Header[wire.HeaderBatchNumber] = []string{strconv.Itoa(i + 1)}
		if i == last {
			m.Header[wire.HeaderBatchCommit] = []string{"1"}
			break
		}
		if err := nc.PublishMsg(m); err != nil {
			return nil, err
		}
	}
	return nc.RequestMsgWithContext(ctx, group[last])
}

// unbatch takes out what an earlier try in a group put in.
func unbatch(m *nats.Msg) {
	if m.Header != nil {
		delete(m.Header, wire.HeaderBatchID)
		delete(m.Header, wire.HeaderBatchNumber)
		delete(m.Header, wire.HeaderBatchCommit)
	}
}

// Ack is what a stream answers.
type Ack struct {
	Stream    string              `json:"stream"`
	Sequence  uint64              `json:"seq"` // of the group's last message
	Duplicate bool                `json:"duplicate"`
	Error     *jetstream.APIError `json:"error"`
}

// PubAck reads what a group was answered. The error is a *bridge.Rejection when the stream will never take
// it; any other passes.
func PubAck(m *nats.Msg) (ack Ack, err error) {
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return ack, errors.New("the PubAck is no JSON")
	}
	switch {
	case ack.Error == nil && ack.Stream != "":
		return ack, nil
	case ack.Error == nil:
		return ack, errors.New("the PubAck names no stream")
	case ack.Error.ErrorCode == wire.CodeTooLarge:
		return ack, bridge.Rejectf(bridge.CodeTooLarge, "the stream refuses it: %s", ack.Error.Description)
	}
	return ack, ack.Error
}
