package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"fleetbridge/mapping"
)

// intake takes what programs publish for one class and stores it for them, in groups: while one group is
// synced to the disk, the next gathers. Publishers are answered after that, with the PubAck that the
// stream would have given. So a sync is paid for as many messages as came meanwhile, whereas a stream
// that captures the subjects itself syncs each message alone.
//
// Nothing is tried again: like a stream, the intake answers an error, and the program decides.
type intake struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	stream string
	nonce  string
	// working ends when the server can't answer any more.
	working  func() context.Context
	handover *handover
	log      *slog.Logger
	subs     map[string]*nats.Subscription
	in       chan *nats.Msg
	once     sync.Once
	ended    chan struct{}
	work     sync.WaitGroup

	mu      sync.Mutex
	waiting []*nats.Msg
	stamps  stamper
	bytes   int           // of what waits
	more    chan struct{} // something waits
}

// Bounds of what waits to be stored; beyond them programs get an error at once, as from a busy stream.
const (
	intakeMessages = 64 << 10
	intakeBytes    = 64 << 20
)

// Answers in the place of a PubAck.
const (
	answerBusy   = `{"error":{"code":429,"err_code":10167,"description":"too many requests"}}`
	answerFailed = `{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`
	// longestSubject leaves room in a line for what else is in it: the server ends a connection whose line is
	// longer than it takes. A legal subject is much shorter.
	longestSubject = server.MAX_CONTROL_LINE_SIZE / 2
	answerTooLong  = `{"error":{"code":400,"err_code":10003,"description":"the subject is longer than any that goes to the cloud"}}`
)

// newIntake stores in the stream of a class. Nothing comes before listen.
func (s *Store) newIntake(c mapping.Class) *intake {
	i := &intake{nc: s.cfg.Intake, js: s.js, stream: s.up[c].CachedInfo().Config.Name, nonce: nuid.Next(), working: s.cfg.working,
		handover: s.handovers[c], log: s.log, subs: map[string]*nats.Subscription{}, stamps: stamper{},
		in: make(chan *nats.Msg, intakeMessages), ended: make(chan struct{}), more: make(chan struct{}, 1)}
	i.work.Go(i.receive)
	i.work.Go(i.run)
	return i
}

// listen takes what is published on these subjects, and nothing else any more. They name their Things, so
// for another Thing nobody listens, and its publisher hears that at once.
func (i *intake) listen(subjects []string) error {
	wanted := make(map[string]bool, len(subjects))
	for _, subject := range subjects {
		if wanted[subject] = true; i.subs[subject] != nil {
			continue
		}
		sub, err := i.nc.ChanSubscribe(subject, i.in) // one channel for all, which keeps their order
		if err != nil {
			return fmt.Errorf("subscribing to %s: %w", subject, err)
		}
		i.subs[subject] = sub
	}
	for subject, sub := range i.subs {
		if !wanted[subject] {
			_ = sub.Unsubscribe()
			delete(i.subs, subject)
		}
	}
	if err := i.nc.FlushTimeout(apiTimeout); err != nil {
		return fmt.Errorf("subscribing to what programs publish: %w", err)
	}
	return nil
}

// receive puts down what comes, or refuses it.
func (i *intake) receive() {
	for {
		select {
		case <-i.ended:
			return
		case m := <-i.in:
			switch {
			case len(m.Subject) > longestSubject:
				i.answer(m.Reply, []byte(answerTooLong))
			case !i.put(m):
				i.answer(m.Reply, []byte(answerBusy))
			}
		}
	}
}

func (i *intake) put(m *nats.Msg) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.waiting) >= intakeMessages || i.bytes >= intakeBytes {
		return false
	}
	admit(m)
	i.stamps.stamp(m, i.handover.space, time.Now())
	i.waiting = append(i.waiting, m)
	i.bytes += size(m)
	if len(i.waiting) == 1 {
		signal(i.more)
	}
	return true
}

// run stores what waits, group after group.
func (i *intake) run() {
	var all []*nats.Msg
	for {
		select {
		case <-i.ended:
			return
		case <-i.handover.gap:
			i.look()
		case <-i.more:
		}
		i.sweep()
		i.mu.Lock()
		all, i.waiting = i.waiting, all[:0]
		i.bytes = 0
		i.mu.Unlock()
		for rest := all; len(rest) > 0 && !i.over(); {
			n := groupLength(rest)
			i.store(rest[:n])
			rest = rest[n:]
		}
		clear(all)
		if cap(all) > groupMax*8 {
			all = nil // after a rush
		}
	}
}

// look has the queues read the stream when that has something that the intake does not know of.
func (i *intake) look() {
	working := i.working()
	ctx, cancel := context.WithTimeout(working, ackTimeout)
	defer cancel()
	held, last, err := heldBy(ctx, i.js, i.stream, i.handover.space)
	if err != nil {
		i.log.Debug("can't look for what was stored past the intake", "error", err)
		return
	}
	i.handover.align(last)
	i.handover.survey(held, working) // what was stored after the last is seen later
}

// sweep empties a stream that has a damaged record as soon as nothing else is in it: at once, and with nothing stored
// meanwhile. See ledger.
func (i *intake) sweep() {
	last, ok := i.handover.emptied()
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(i.working(), ackTimeout)
	defer cancel()
	stream, err := i.js.Stream(ctx, i.stream)
	if err == nil && stream.CachedInfo().State.LastSeq != last { // somebody else has stored something
		return
	}
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSequence(last+1))
	}
	if err != nil {
		i.log.Debug("can't remove a damaged record", "error", err)
		return
	}
	i.handover.swept(last)
}

func (i *intake) over() bool {
	select {
	case <-i.ended:
		return true
	default:
		return false
	}
}

// groupLength is how many messages go together. One that asks something of the server goes alone.
func groupLength(all []*nats.Msg) int {
	bytes := 0
	for n, m := range all {
		if n == groupMax || bytes >= groupBytes {
			return n
		}
		if asks(m.Header) {
			return max(n, 1)
		}
		bytes += size(m)
	}
	return len(all)
}

// asks tells that a program set a header by which it asks the server for more than storing, such as
// Nats-Expected-Last-Sequence. A message id is no such.
func asks(h nats.Header) bool {
	for k := range h {
		if strings.HasPrefix(k, "Nats-") && k != jetstream.MsgIDHeader {
			return true
		}
	}
	return false
}

// store stores a group and answers its publishers. When the stream refuses it whole, each message is
// tried alone and gets the stream's own answer.
func (i *intake) store(group []*nats.Msg) {
	ctx, cancel := context.WithTimeout(i.working(), ackTimeout)
	defer cancel()
	wire := make([]*nats.Msg, len(group))
	for n, m := range group {
		wire[n] = &nats.Msg{Subject: internal(m.Subject), Header: m.Header, Data: m.Data}
	}
	answer, err := commit(ctx, i.nc, wire, i.nonce+nuid.Next())
	if err != nil {
		i.failed(group, err)
		return
	}
	ack, err := pubAck(answer)
	if err != nil && len(group) > 1 {
		for n := range group {
			i.store(group[n : n+1])
		}
		return
	}
	first := ack.Sequence - uint64(len(group)-1)
	if err == nil && !ack.Duplicate {
		i.handover.give(first, group)
	}
	if len(group) == 1 {
		i.answer(group[0].Reply, answer.Data)
		return
	}
	for n, m := range group {
		if m.Reply == "" {
			continue
		}
		ack := append(make([]byte, 0, 64), `{"stream":"`...)
		ack = append(append(ack, i.stream...), `","seq":`...)
		ack = strconv.AppendUint(ack, first+uint64(n), 10)
		i.answer(m.Reply, append(ack, '}'))
	}
}

// failed answers a group of which nobody knows whether it is stored.
func (i *intake) failed(group []*nats.Msg, err error) {
	signal(i.handover.gap)
	if !errors.Is(err, nats.ErrConnectionClosed) {
		i.log.Debug("what programs published can't be stored", "messages", len(group), "error", err)
	}
	for _, m := range group {
		i.answer(m.Reply, []byte(answerFailed))
	}
}

// answer is lost with the connection, and the program with it.
func (i *intake) answer(reply string, ack []byte) {
	if reply != "" {
		_ = i.nc.Publish(reply, ack)
	}
}

// close takes nothing more and waits for the group under way. What waits behind it is not answered.
func (i *intake) close() {
	i.once.Do(func() {
		for _, sub := range i.subs {
			_ = sub.Unsubscribe()
		}
		close(i.ended)
		i.work.Wait()
		_ = i.nc.FlushTimeout(time.Second) // the answers
	})
}
