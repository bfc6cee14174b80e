package local

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

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
	answer, err := h.request(ctx, c.Thing, m)
	if errors.Is(err, nats.ErrNoResponders) {
		return bridge.Reply{}, bridge.ErrNoHandler
	}
	if err != nil {
		return bridge.Reply{}, err
	}
	reply := bridge.Reply{Payload: answer.Data, ErrorCode: header(answer.Header, micro.ErrorCodeHeader), Error: header(answer.Header, micro.ErrorHeader), Trace: traceOf(answer.Header)}
	if reply.Error != "" && reply.ErrorCode == "" {
		reply.ErrorCode = "500" // the convention asks for both; half of it is an error, too
	}
	return reply, nil
}

// request is nats.Conn's, but with a reply subject of the Thing's, under which a program that may serve
// the Thing's commands can answer from its own account, and nobody else.
func (h handlers) request(ctx context.Context, t mapping.Thing, m *nats.Msg) (*nats.Msg, error) {
	m.Reply = replySpace(h.subjects) + mapping.Token(string(t)) + "." + nuid.Next()
	answers := make(chan *nats.Msg, 1)
	sub, err := h.nc.ChanSubscribe(m.Reply, answers)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // or the server has, after the first answer
	if err := sub.AutoUnsubscribe(1); err != nil {
		return nil, err
	}
	if err := h.nc.PublishMsg(m); err != nil {
		return nil, err
	}
	select {
	case answer := <-answers:
		if len(answer.Data) == 0 && answer.Header.Get("Status") == "503" {
			return nil, nats.ErrNoResponders
		}
		return answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
