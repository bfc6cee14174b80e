package door

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// Brake holds back programs that send faster than the bridge reads. The server passes on at once what it gets, and what
// the bridge has not read waits in front of it in one line for all: there a flood would be everybody's wait, and take
// memory. So only so many bytes are under way at a time, of which everybody has a share. What is more waits in its
// program's own socket.
//
// Bytes are under way until a mark, which was sent behind them, has come through on every way on which the bridge hears
// programs.
type Brake struct {
	nc      *nats.Conn
	subject string // of marks, which nobody else can know
	answers string // begins the reply subjects of marks that are questions to JetStream

	mu       sync.Mutex
	ways     int
	fresh    map[any]load // what no mark covers yet, by who shares the count
	under    flow.Quota   // bytes under way
	api      flow.Quota   // questions to JetStream under way
	asked    flow.Quota   // questions that nobody may answer, of the last seconds
	marks    map[string]*marker
	sent     uint64
	lines    map[any]*waiters // who waits for room
	turns    []*waiters       // the same, who goes next first
	patience time.Duration    // for a mark
	forget   time.Duration    // after which a question counts no more
}

// load is what something that was read costs.
type load struct {
	bytes int
	asked int // questions that nobody may answer
	api   int // questions to JetStream
}

func (l load) and(o load) load { return load{l.bytes + o.bytes, l.asked + o.asked, l.api + o.api} }

// little is too little for a mark.
func (l load) little() bool { return l.bytes < brakeChunk && l.api < apiTurn }

// waiters are those of one sender that wait for room, in the order in which they came.
type waiters struct {
	who     any
	waiting []*waiter
}

type waiter struct {
	load
	let chan struct{} // closed when there is room, which is taken already
}

const (
	// brakeChunk is how many bytes one mark covers at least. Who sends less never waits.
	brakeChunk = 16 << 10
	// subscribing is how many bytes a subscription counts for, or its end: the server makes it among all those of everybody,
	// one after the other, and whoever has a message to deliver waits behind them.
	subscribing = 512
	// BrakeBytes may be under way altogether. Nobody has more than is free beside it, or one read of the server's.
	BrakeBytes = 256 << 10
	// markPatience is how long a mark is waited for: one that is lost, as with a connection, holds nobody up for long.
	markPatience = 2 * time.Second
	// maxAsked is how many questions that nobody may answer there may be of the last askedFor: so long the server keeps them
	// at most, at some 600 bytes each. Nobody has more than is free beside it.
	maxAsked = 128 << 10
	askedFor = 2 * QuickPatience
	// leastAsked are counted together.
	leastAsked = 256
	// apiMost questions to JetStream may be under way: it answers them one after the other, some thousand a second, and of
	// too many drops all. apiTurn of them go to it together.
	apiMost = 16
	apiTurn = 4
)

// marker covers bytes that are under way.
type marker struct {
	brake *Brake
	who   any
	load  load
	over  bool   // it has been released
	id    string // begins its payload
	left  int    // ways on which it has not come through
	timer *time.Timer
}

func NewBrake(nc *nats.Conn, s mapping.Subjects) *Brake {
	return &Brake{nc: nc, subject: "_" + s.Prefix() + ".mark." + nuid.Next(), answers: nc.NewInbox() + ".", fresh: map[any]load{},
		under: flow.Quota{Limit: BrakeBytes}, api: flow.Quota{Limit: apiMost}, asked: flow.Quota{Limit: maxAsked}, marks: map[string]*marker{}, lines: map[any]*waiters{}, patience: markPatience, forget: askedFor}
}

// Through makes a connection one of the ways, with all that its subscriptions' functions are called for. None of them
// may wait for anything.
func (b *Brake) Through(nc *nats.Conn) error {
	if b == nil {
		return nil
	}
	_, err := nc.Subscribe(b.subject, func(m *nats.Msg) {
		if nc.Barrier(func() { b.Back(m) }) != nil { // the connection is closed
			b.Back(m)
		}
	})
	return b.open(err, 1)
}

// ThroughChannel makes a channel one of the ways, to which subscriptions of the connection deliver, until leave is called. Who
// reads it looks for marks.
func (b *Brake) ThroughChannel(nc *nats.Conn, in chan *nats.Msg) (leave func(), err error) {
	if b == nil {
		return func() {}, nil
	}
	sub, err := nc.ChanSubscribe(b.subject, in)
	return func() {
		_ = sub.Unsubscribe() // or the connection is closed
		_ = b.open(nil, -1)
	}, b.open(err, 1)
}

// ThroughAPI hears the answers to questions to JetStream that go behind others.
func (b *Brake) ThroughAPI() error {
	_, err := b.nc.Subscribe(b.answers+"*", func(m *nats.Msg) { b.cameBack(strings.TrimPrefix(m.Subject, b.answers)) })
	if err == nil {
		err = b.nc.FlushTimeout(wire.APITimeout)
	}
	return b.open(err, 0)
}

// open counts a way.
func (b *Brake) open(err error, n int) error {
	if err != nil {
		return fmt.Errorf("subscribing to what follows programs' messages: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ways += n
	return nil
}

// IsMark reports whether a message is a mark. Who gets it calls back when it may pass.
func (b *Brake) IsMark(m *nats.Msg) bool { return b != nil && m.Subject == b.subject }

// MarkOf is the user whose bytes a mark follows, or empty.
func MarkOf(m *nats.Msg) string {
	_, user, _ := strings.Cut(string(m.Data), " ")
	return user
}

// hold waits until there is room for what somebody has sent. It returns what is to be called when the server has
// passed it on, or nil while that is little.
func (b *Brake) hold(who, counted any, l load, gone <-chan struct{}) *marker {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l = l.and(b.fresh[counted]); l.little() {
		b.fresh[counted] = l
		return nil
	}
	delete(b.fresh, counted)
	if l.asked < leastAsked && l.asked > 0 {
		b.fresh[counted] = load{asked: l.asked}
		l.asked = 0
	}
	if !b.enterLocked(who, l, gone) {
		return nil
	}
	m := &marker{brake: b, who: who, load: l}
	m.timer = time.AfterFunc(b.patience, m.release)
	return m
}

// enterLocked takes room, and waits for it behind those of who's that wait already. It reports false when who has gone.
func (b *Brake) enterLocked(who any, l load, gone <-chan struct{}) bool {
	if b.lines[who] == nil && b.roomLocked(who, l) {
		b.takeLocked(who, l)
		return true
	}
	w := &waiter{l, make(chan struct{})}
	if b.lines[who] == nil {
		b.lines[who] = &waiters{who: who}
		b.turns = append(b.turns, b.lines[who])
	}
	b.lines[who].waiting = append(b.lines[who].waiting, w)
	b.mu.Unlock()
	select {
	case <-w.let:
	case <-gone:
	}
	b.mu.Lock()
	select {
	case <-w.let:
		return true
	default:
		b.dropLocked(who, w)
		return false
	}
}

// dropLocked takes out of its line who waits no more.
func (b *Brake) dropLocked(who any, w *waiter) {
	ln := b.lines[who]
	if ln.waiting = slices.DeleteFunc(ln.waiting, func(o *waiter) bool { return o == w }); len(ln.waiting) == 0 {
		delete(b.lines, who)
		b.turns = slices.DeleteFunc(b.turns, func(o *waiters) bool { return o == ln })
	}
}

func (b *Brake) roomLocked(who any, l load) bool {
	return b.under.Fits(who, l.bytes) && b.api.Fits(who, l.api) && b.asked.Fits(who, l.asked)
}

func (b *Brake) takeLocked(who any, l load) {
	b.under.Add(who, l.bytes)
	b.api.Add(who, l.api)
	if l.asked > 0 {
		b.asked.Add(who, l.asked)
		time.AfterFunc(b.forget, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.asked.Add(who, -l.asked)
			b.letLocked()
		})
	}
}

// letLocked wakes those for whom there is room, in turns.
func (b *Brake) letLocked() {
	for i := 0; i < len(b.turns) && b.under.Used() < b.under.Limit; {
		ln := b.turns[i]
		w := ln.waiting[0]
		if !b.roomLocked(ln.who, w.load) {
			i++
			continue
		}
		b.takeLocked(ln.who, w.load)
		close(w.let)
		b.turns = slices.Delete(b.turns, i, i+1)
		if ln.waiting = ln.waiting[1:]; len(ln.waiting) == 0 {
			delete(b.lines, ln.who)
		} else {
			b.turns = append(b.turns, ln)
		}
	}
}

// follow sends the mark behind what it covers.
func (m *marker) follow() {
	b := m.brake
	b.mu.Lock()
	if m.left = b.ways; m.load.api > 0 {
		m.left++
	}
	if m.left == 0 || m.over { // nobody hears programs yet; given up
		m.releaseLocked()
		b.mu.Unlock()
		return
	}
	b.sent++
	m.id = strconv.FormatUint(b.sent, 10)
	b.marks[m.id] = m
	b.mu.Unlock()
	user, _ := m.who.(string)                          // empty without users
	_ = b.nc.Publish(b.subject, []byte(m.id+" "+user)) // else it is given up in a moment
	if m.load.api > 0 {
		_ = b.nc.PublishRequest(AskNames, b.answers+m.id, []byte(noNames))
	}
}

// noNames asks for names of streams beyond the last.
const noNames = `{"offset":1000000000}`

// Back hears that a mark has come through on one of the ways.
func (b *Brake) Back(msg *nats.Msg) {
	id, _, _ := strings.Cut(string(msg.Data), " ")
	b.cameBack(id)
}

func (b *Brake) cameBack(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.marks[id]
	if m == nil { // given up
		return
	}
	if m.left--; m.left == 0 {
		m.releaseLocked()
	}
}

func (m *marker) release() {
	m.brake.mu.Lock()
	defer m.brake.mu.Unlock()
	m.releaseLocked()
}

func (m *marker) releaseLocked() {
	b := m.brake
	if m.over {
		return
	}
	m.over = true
	m.timer.Stop()
	delete(b.marks, m.id)
	b.under.Add(m.who, -m.load.bytes)
	b.api.Add(m.who, -m.load.api)
	b.letLocked()
}

// QuickPatience is how long the server keeps who asked where the answer comes at once, or never: the library drops questions
// about the service that come faster than it answers, JetStream says nothing to an acknowledgement of what is acknowledged,
// and nobody answers a handler's answer.
const QuickPatience = 2 * time.Second

// AskNames is the subject of JetStream's names of streams.
const AskNames = "$JS.API.STREAM.NAMES"
