package services

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

type handlers struct {
	nc       *nats.Conn
	subjects mapping.Subjects
	server   *server.Server   // nil with an external one
	kept     jetstream.Stream // of replies; nil: none are kept
}

// NewHandlers reaches the programs that subscribe to {prefix}.cmd.{t}.{action}. With the embedded server, whoever
// subscribes to more than commands only watches; an external one (nil) can't be asked, and all that it delivers to counts.
// A stream that keeps replies has those that came while no bridge listened; nil: none does.
func NewHandlers(nc *nats.Conn, subjects mapping.Subjects, s *server.Server, kept jetstream.Stream) bridge.Handlers {
	return handlers{nc, subjects, s, kept}
}

// watched reports whether all who would get a command subscribe to a wildcard in the place of cmd, or to a shorter one:
// they would get as many words of any other kind.
func (h handlers) watched(t mapping.Thing, action string) bool {
	if h.server == nil {
		return false
	}
	subject := h.subjects.Command(t, action)
	kind, other := h.subjects.Prefix()+".cmd.", h.subjects.Prefix()+"._."
	return onlyWith(h.server, subject, other+strings.TrimPrefix(subject, kind))
}

// onlyWith reports whether there are subscriptions that a subject of the bridge's account reaches, and another one reaches
// all of them, too. It costs something only when the other one reaches any.
func onlyWith(s *server.Server, subject, other string) bool {
	account := s.GlobalAccount()
	if account.Interest(other) == 0 {
		return false
	}
	list, err := s.Subsz(&server.SubszOptions{Subscriptions: true, Account: account.Name, Test: subject, Limit: math.MaxInt32})
	if err != nil || len(list.Subs) == 0 {
		return false
	}
	return !slices.ContainsFunc(list.Subs, func(sub server.SubDetail) bool {
		_, both := wire.Intersect(sub.Subject, other)
		return !both
	})
}

// lookTime is how long the look for a reply that is kept may take, before the next one.
const lookTime = 5 * time.Second

// replyRoom is how many replies to one execution are kept while the first is being read: several come if
// programs subscribe without a queue group.
const replyRoom = 64

// line is bridge.Line. Its subject is the Thing's: a program that may serve the Thing's commands can
// answer there from its own account, and nobody else.
type line struct {
	handlers
	subject string
	sub     *nats.Subscription
	replies chan *nats.Msg
	called  bool // in this run
	closed  chan struct{}
}

// Listen is bridge.Handlers.
func (h handlers) Listen(t mapping.Thing, token string) (bridge.Line, error) {
	l := &line{handlers: h, subject: wire.ReplySpace(h.subjects) + mapping.Token(string(t)) + "." + token, replies: make(chan *nats.Msg, replyRoom), closed: make(chan struct{})}
	var err error
	if l.sub, err = h.nc.ChanSubscribe(l.subject, l.replies); err != nil {
		return nil, err
	}
	return l, nil
}

// Call is bridge.Line. When several programs subscribe without a queue group, all of them run the
// command and the first reply counts.
func (l *line) Call(ctx context.Context, c bridge.Call) (bridge.Reply, error) {
	l.called = true
	if len(l.subjects.Command(c.Thing, c.Action)) > wire.LongestSubject { // an older version may have stored it
		return bridge.Reply{}, bridge.ErrNoHandler
	}
	if l.watched(c.Thing, c.Action) {
		return bridge.Reply{}, bridge.ErrNoHandler
	}
	m := nats.NewMsg(l.subjects.Command(c.Thing, c.Action))
	m.Reply, m.Data = l.subject, c.Payload
	m.Header.Set(wire.HeaderExecution, wire.HeaderText(c.Execution))
	if !c.Deadline.IsZero() {
		m.Header.Set(wire.HeaderDeadline, c.Deadline.UTC().Format(time.RFC3339Nano))
	}
	wire.SetTrace(m.Header, c.Trace)
	if err := l.nc.PublishMsg(m); err != nil {
		return bridge.Reply{}, err
	}
	reply, err := l.Wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) && l.server == nil {
		err = &bridge.Unanswered{Heard: l.heard(c.Thing, c.Action), Err: err}
	}
	return reply, err
}

// Wait is bridge.Line.
func (l *line) Wait(ctx context.Context) (bridge.Reply, error) {
	if l.kept != nil && !l.called {
		l.called = true
		go l.look()
	}
	var answer *nats.Msg
	select {
	case answer = <-l.replies:
	case <-ctx.Done():
		return bridge.Reply{}, ctx.Err()
	}
	if wire.NobodyThere(answer) {
		return bridge.Reply{}, bridge.ErrNoHandler
	}
	reply := bridge.Reply{Payload: answer.Data, ErrorCode: wire.Value(answer.Header, micro.ErrorCodeHeader), Error: wire.Value(answer.Header, micro.ErrorHeader), Trace: wire.TraceOf(answer.Header)}
	if reply.Error != "" && reply.ErrorCode == "" {
		reply.ErrorCode = "500" // the convention asks for both; half of it is an error, too
	}
	return reply, nil
}

// look finds a reply that came before this run listened.
func (l *line) look() {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), lookTime)
		raw, err := l.kept.GetLastMsgForSubject(ctx, l.subject)
		cancel()
		switch {
		case err == nil:
			select {
			case l.replies <- &nats.Msg{Subject: l.subject, Header: raw.Header, Data: raw.Data}:
			default: // others came
			}
			return
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return
		}
		select {
		case <-l.closed:
			return
		case <-time.After(time.Second):
		}
	}
}

// Close is bridge.Line.
func (l *line) Close() {
	close(l.closed)
	_ = l.sub.Unsubscribe()
}
