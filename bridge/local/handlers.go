package local

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

type handlers struct {
	nc       *nats.Conn
	subjects mapping.Subjects
}

// NewHandlers reaches the programs that subscribe to {prefix}.cmd.{t}.{action}.
func NewHandlers(nc *nats.Conn, subjects mapping.Subjects) bridge.Handlers {
	return handlers{nc, subjects}
}

// Call is bridge.Handlers. When several programs subscribe without a queue group, all of them run the
// command and the first reply counts.
func (h handlers) Call(ctx context.Context, c bridge.Call) (bridge.Reply, error) {
	m := nats.NewMsg(h.subjects.Command(c.Thing, c.Action))
	m.Data = c.Payload
	m.Header.Set(HeaderExecution, c.Execution)
	if !c.Deadline.IsZero() {
		m.Header.Set(HeaderDeadline, c.Deadline.UTC().Format(time.RFC3339Nano))
	}
	setTrace(m.Header, c.Trace)
	answer, err := h.nc.RequestMsgWithContext(ctx, m)
	if errors.Is(err, nats.ErrNoResponders) {
		return bridge.Reply{}, bridge.ErrNoHandler
	}
	if err != nil {
		return bridge.Reply{}, err
	}
	reply := bridge.Reply{Payload: answer.Data, ErrorCode: header(answer.Header, micro.ErrorCodeHeader), Error: header(answer.Header, micro.ErrorHeader)}
	if reply.Error != "" && reply.ErrorCode == "" {
		reply.ErrorCode = "500" // the convention asks for both; half of it is an error, too
	}
	return reply, nil
}
