package services

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"fleetbridge/bridge/local/wire"

	"github.com/nats-io/nats.go"
	"github.com/tidwall/gjson"
)

// audience finds out whether anybody hears an answer. Of an answer that asks for a reply the server says at
// once that it found nobody. Between accounts it does not, and would keep a record of each reply subject;
// there it is asked for a trace of the answer, which says whether it went any further.
type audience struct {
	nc                  *nats.Conn
	answers             *wire.Answers
	nobody, traces      string         // what the reply subjects, and those of traces, begin with
	notices             chan *nats.Msg // on nobody
	noticeSub, traceSub *nats.Subscription

	mu      sync.Mutex
	sent    uint64
	unheard map[string]bool      // by the reply subject, while the answer is being looked at
	waiting map[string]chan bool // by the subject of the trace
}

const (
	// headerTrace makes the server (2.11 and later) send a trace of the message to a subject. Between
	// accounts it takes the subject out again.
	headerTrace = "Nats-Trace-Dest"
	// maxTraceDest is what that header may take of an answer's room: it is an inbox with a number.
	maxTraceDest = 128
	// verdictWait is how long the server may take. It takes no time; without its word an answer counts as
	// heard.
	verdictWait = 5 * time.Second
)

func newAudience(nc *nats.Conn, answers *wire.Answers) (*audience, error) {
	a := &audience{nc: nc, answers: answers, nobody: nc.NewInbox() + ".", traces: nc.NewInbox() + ".",
		notices: make(chan *nats.Msg, 2*maxRequests), unheard: map[string]bool{}, waiting: map[string]chan bool{}}
	var err error
	if a.noticeSub, err = nc.ChanSubscribe(a.nobody+"*", a.notices); err != nil {
		return nil, err
	}
	if a.traceSub, err = nc.Subscribe(a.traces+"*", a.traced); err != nil {
		_ = a.noticeSub.Unsubscribe()
		return nil, err
	}
	return a, nil
}

// hears sends an answer and tells whether somebody was there to hear it. It is true when that can't be
// found out.
func (a *audience) hears(ctx context.Context, m *nats.Msg) bool {
	a.mu.Lock()
	a.sent++
	token := strconv.FormatUint(a.sent, 10)
	a.mu.Unlock()
	if strings.HasPrefix(m.Subject, wire.Crossing) {
		return a.goesOn(ctx, m, a.traces+token)
	}
	return a.noticed(m, a.nobody+token)
}

// noticed sends an answer within the account. A notice about it comes before the answer to the flush.
func (a *audience) noticed(m *nats.Msg, reply string) bool {
	a.mu.Lock()
	a.unheard[reply] = false
	a.mu.Unlock()
	m.Reply = reply
	failed := a.answers.Send(m) != nil || a.nc.FlushTimeout(verdictWait) != nil
	a.mu.Lock()
	defer a.mu.Unlock()
	defer delete(a.unheard, reply)
	for !failed {
		select {
		case n := <-a.notices:
			if _, looked := a.unheard[n.Subject]; looked && wire.NobodyThere(n) {
				a.unheard[n.Subject] = true
			}
			continue
		default:
		}
		return !a.unheard[reply]
	}
	return true
}

// goesOn sends an answer to another account and waits for its trace.
func (a *audience) goesOn(ctx context.Context, m *nats.Msg, to string) bool {
	heard := make(chan bool, 1)
	a.mu.Lock()
	a.waiting[to] = heard
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.waiting, to)
	}()
	m.Header.Set(headerTrace, to)
	if a.answers.Send(m) != nil {
		return true
	}
	timer := time.NewTimer(verdictWait)
	defer timer.Stop()
	select {
	case h := <-heard:
		return h
	case <-ctx.Done():
	case <-timer.C:
	}
	return true
}

// traced reads a trace. Its first event is that the message came in.
func (a *audience) traced(m *nats.Msg) {
	events := gjson.GetBytes(m.Data, "events.#").Int()
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.waiting[m.Subject]; c != nil && events > 0 {
		delete(a.waiting, m.Subject)
		c <- events > 1
	}
}

func (a *audience) close() {
	_ = a.noticeSub.Unsubscribe()
	_ = a.traceSub.Unsubscribe()
}
