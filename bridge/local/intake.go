package local

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"

	"fleetbridge/bridge"
	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/door"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// intake hears what programs publish of one class, and has the spool store it: while one group is synced to the disk, the
// next gathers. Publishers are answered after that, with the PubAck that a stream would have given.
//
// Nothing is tried again: like a stream, the intake answers an error, and the program decides.
type intake struct {
	spool  *Spool
	stream string // that PubAcks name
	space  string // "fleets.up.>"
	subs   map[string]*nats.Subscription
	in     chan *nats.Msg
	leave  func() // the brake
	life

	mu      sync.Mutex
	waiting turns
	stamps  stamper
	more    chan struct{} // something waits

	flight  chan struct{} // holds one for each group that is being stored
	through chan *group   // what became of groups, in order
}

// group is what is stored together.
type group struct {
	members []parked
	ends    []outcome // in the members' order
	left    atomic.Int32
}

// groupsUnderWay is how many groups may be on their way to the disk: while one is synced, the next is made ready.
const groupsUnderWay = 2

// Answers in the place of a PubAck.
const (
	answerBusy   = `{"error":{"code":429,"err_code":10167,"description":"too many requests"}}`
	answerFailed = `{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`
	answerFull   = `{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}`
)

// newIntake takes for a class. Nothing comes before listen.
func (s *Spool) newIntake(c mapping.Class) (i *intake, err error) {
	i = &intake{spool: s, stream: s.subjects.Name(wire.UpStream(c)), space: s.subjects.Space(mapping.SpaceUp),
		subs: map[string]*nats.Subscription{}, in: make(chan *nats.Msg, intakeMessages), life: life{ended: make(chan struct{})},
		stamps: stamper{}, more: make(chan struct{}, 1), flight: make(chan struct{}, groupsUnderWay), through: make(chan *group, groupsUnderWay)}
	if i.leave, err = s.cfg.Brake.ThroughChannel(s.cfg.Intake, i.in); err != nil {
		return nil, err
	}
	i.work.Go(i.receive)
	i.work.Go(i.run)
	i.work.Go(i.answerAll)
	return i, nil
}

// listen takes what is published on these subjects, and nothing else any more. They name their Things, so
// for another Thing nobody listens, and its publisher hears that at once.
func (i *intake) listen(subjects []string) error {
	wanted := make(map[string]bool, len(subjects))
	for _, subject := range subjects {
		if wanted[subject] = true; i.subs[subject] != nil {
			continue
		}
		sub, err := i.spool.cfg.Intake.ChanSubscribe(subject, i.in) // one channel for all, which keeps their order
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
	if err := i.spool.cfg.Intake.FlushTimeout(wire.APITimeout); err != nil {
		return fmt.Errorf("subscribing to what programs publish: %w", err)
	}
	return nil
}

var (
	errTooLarge = errors.New("message size exceeds maximum allowed")
	errBusy     = errors.New("too many requests")
)

// receive puts down what comes, or refuses it.
func (i *intake) receive() {
	for {
		select {
		case <-i.ended:
			return
		case m := <-i.in:
			if i.spool.cfg.Brake.IsMark(m) {
				i.follow(m)
				continue
			}
			of := i.sender(m)
			if !i.admit(m) {
				continue
			}
			if !i.put(of, m, nil) {
				i.answer(m.Reply, []byte(answerBusy))
			}
		}
	}
}

// follow lets a mark of the brake's pass, at once or when little of its sender's waits. Without accounts the brake knows
// connections, and lanes are the Things'.
func (i *intake) follow(m *nats.Msg) {
	i.mu.Lock()
	detained := i.spool.cfg.Accounts && i.waiting.detain(access.User{Name: door.MarkOf(m)}.Account(), m)
	i.mu.Unlock()
	if !detained {
		i.spool.cfg.Brake.Back(m)
	}
}

// sender is who published: the account, as the server says, or without accounts the Thing.
func (i *intake) sender(m *nats.Msg) string {
	if i.spool.cfg.Accounts {
		return wire.AccountOf(m.Header) // empty: who logs in to the bridge's own
	}
	return wire.ThingToken(m.Subject, i.space)
}

// admit leaves of a message what crosses to the stream that all Things share, or refuses it. A message id counts for
// its subject only: else a program could have another one's message taken for a duplicate, and so lost, by using its id
// first.
func (i *intake) admit(m *nats.Msg) bool {
	code, err := i.judge(m)
	switch {
	case m.Reply != "" && !wire.Answerable(i.spool.subjects, m.Reply):
		i.spool.log.Warn("refused what a program published: the bridge answers on no such reply subject", "subject", wire.ProgramText(m.Subject), "reply", wire.ProgramText(m.Reply))
		return false
	case err == nil:
		return true
	case m.Reply == "":
		i.spool.log.Warn("refused what a program published without asking for an answer", "subject", wire.ProgramText(m.Subject), "error", err)
	default:
		i.spool.log.Debug("what a program published is refused", "subject", m.Subject, "error", err)
		i.answer(m.Reply, wire.NoPubAck(code, err.Error()))
	}
	return false
}

func (i *intake) judge(m *nats.Msg) (errCode int, err error) {
	if len(m.Subject) > wire.LongestSubject {
		return wire.CodeBadRequest, errors.New("the subject is longer than any that goes to the cloud")
	}
	if wire.Illegible(m) {
		return wire.CodeBadRequest, wire.ErrIllegible
	}
	h, err := wire.Admit(m.Header)
	if err != nil {
		return wire.CodeBadRequest, err
	}
	if want := h[jetstream.ExpectedStreamHeader]; want != nil {
		if want[0] != i.stream {
			return wire.CodeWrongStream, errors.New("expected stream does not match")
		}
		delete(h, jetstream.ExpectedStreamHeader)
	}
	if id := h[jetstream.MsgIDHeader]; id != nil && strings.TrimSpace(id[0]) == "" {
		delete(h, jetstream.MsgIDHeader) // to the server an empty one is none
	} else if id != nil {
		h[jetstream.MsgIDHeader] = []string{wire.ShortID(id[0] + " " + wire.HeaderText(m.Subject))}
		if err := wire.WellFormed(jetstream.MsgIDHeader, h[jetstream.MsgIDHeader]); err != nil {
			return wire.CodeBadRequest, err
		}
	}
	m.Header = h
	if wire.Size(m)+groupRoom > i.spool.largest {
		return wire.CodeTooLarge, errTooLarge
	}
	return 0, nil
}

// enqueue has a message of the bridge's own stored, as if a program had published it. done is called once, and must not
// block.
func (i *intake) enqueue(m *nats.Msg, done func(outcome)) {
	if n := wire.Size(m) + groupRoom; n > i.spool.largest {
		done(outcome{err: errTooLarge})
	} else if !i.put("", m, done) {
		done(outcome{err: errBusy})
	}
}

func (i *intake) put(of string, m *nats.Msg, done func(outcome)) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stamps.stamp(m, i.space, time.Now())
	if !i.waiting.put(of, m, done) {
		return false
	}
	flow.Signal(i.more)
	return true
}

// run stores what waits, group after group.
func (i *intake) run() {
	defer close(i.through)
	defer func() { // those under way come through first
		for range groupsUnderWay {
			i.flight <- struct{}{}
		}
	}()
	var passed []*nats.Msg
	for {
		select {
		case <-i.ended:
			return
		case <-i.more:
		}
		select {
		case <-i.ended:
			return
		case i.flight <- struct{}{}:
		}
		i.mu.Lock()
		g := &group{members: i.waiting.take(nil)}
		passed, i.waiting.passed = i.waiting.passed, passed[:0]
		if i.waiting.count > 0 {
			flow.Signal(i.more)
		}
		i.mu.Unlock()
		for _, m := range passed {
			i.spool.cfg.Brake.Back(m)
		}
		i.store(g)
	}
}

// store hands a group to the journal. What becomes of it comes through when that is known of all.
func (i *intake) store(g *group) {
	if len(g.members) == 0 {
		<-i.flight
		return
	}
	g.ends = make([]outcome, len(g.members))
	g.left.Store(int32(len(g.members)))
	now := time.Now()
	for n, p := range g.members {
		m := p.msg
		e := &entry{subject: m.Subject, received: now, stamp: stampOf(m.Header), trace: wire.TraceOf(m.Header), payload: m.Data}
		if id := m.Header[jetstream.MsgIDHeader]; len(id) > 0 {
			e.id = id[0]
		}
		i.spool.append(subjectKey(m.Subject, i.space), e, func(o outcome) {
			g.ends[n] = o
			if g.left.Add(-1) == 0 {
				i.through <- g // it has room for all that are under way
			}
		})
	}
}

// answerAll answers groups that have come through.
func (i *intake) answerAll() {
	for g := range i.through {
		for n, p := range g.members {
			if p.done != nil {
				p.done(g.ends[n])
			} else if p.msg.Reply != "" {
				i.answer(p.msg.Reply, i.pubAck(g.ends[n]))
			}
		}
		<-i.flight
	}
}

// pubAck is the answer to a publisher.
func (i *intake) pubAck(o outcome) []byte {
	switch {
	case o.err == nil:
	case errors.Is(o.err, errFull), errors.Is(o.err, journal.ErrFull):
		return []byte(answerFull)
	case errors.Is(o.err, journal.ErrTooLarge):
		return wire.NoPubAck(wire.CodeTooLarge, errTooLarge.Error())
	default:
		i.spool.log.Debug("what a program published can't be stored", "error", o.err)
		return []byte(answerFailed)
	}
	ack := append(make([]byte, 0, 64), `{"stream":"`...)
	ack = append(append(ack, i.stream...), `","seq":`...)
	ack = strconv.AppendUint(ack, o.sequence, 10)
	if o.duplicate {
		ack = append(ack, `,"duplicate":true`...)
	}
	return append(ack, '}')
}

// answer is lost with the connection, and the program with it.
func (i *intake) answer(reply string, ack []byte) {
	if reply != "" {
		_ = i.spool.cfg.Intake.Publish(reply, ack)
	}
}

// close takes nothing more and waits for the groups under way. What waits behind them is not answered.
func (i *intake) close() {
	i.once.Do(func() {
		for _, sub := range i.subs {
			_ = sub.Unsubscribe()
		}
		i.leave()
		close(i.ended)
		i.work.Wait()
		_ = i.spool.cfg.Intake.FlushTimeout(time.Second) // the answers
	})
}

// stamper gives events without a timestamp one that is stored with them: when they were taken, but no two of a
// Thing the same. So an event that is sent once more is the same event.
type stamper map[string]*bridge.StampClock // by the Thing's token

func (s stamper) stamp(m *nats.Msg, space string, now time.Time) {
	token := wire.ThingToken(m.Subject, space)
	tail := m.Subject[min(len(space)+len(token), len(m.Subject)):]
	if !strings.HasPrefix(tail, eventTail) || bytes.Contains(m.Data, []byte(`"timestamp"`)) && gjson.GetBytes(m.Data, "timestamp").Exists() {
		return
	}
	clock := s[token]
	if clock == nil {
		clock = &bridge.StampClock{}
		s[token] = clock
	}
	clock.SetBack(now)
	ms := clock.Next(now.UnixMilli())
	if m.Header == nil {
		m.Header = nats.Header{}
	}
	m.Header[wire.HeaderStamp] = []string{strconv.FormatInt(ms, 10)}
}

var eventTail, _, _ = strings.Cut(mapping.Event.Route().Tail, "{")

// stampOf reads it.
func stampOf(h nats.Header) int64 {
	if v := h[wire.HeaderStamp]; len(v) > 0 {
		ms, _ := strconv.ParseInt(v[0], 10, 64)
		return ms
	}
	return 0
}
