package local

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"fleetbridge/bridge"
)

// publisher stores messages in JetStream, many at a time, in order, and tries again until they are
// stored. Each carries an id, so that one whose PubAck was lost is not stored twice.
//
// A message that follows another on the wire names it as its predecessor, and the stream refuses it
// when that one is not its last. So after a failure nothing later gets in before: what is on the wire is
// waited for, then the first message is tried alone until it is stored, then the rest follows.
type publisher struct {
	nc     *nats.Conn
	log    *slog.Logger
	what   string // for the log: what is stored
	inbox  string // PubAcks arrive on {inbox}.{epoch}.{number}
	nonce  string // message ids are {nonce}-{number}
	window chan struct{}
	sub    *nats.Subscription
	status chan nats.Status
	wake   chan struct{} // something for run to look at
	ended  chan struct{}
	idle   sync.WaitGroup

	mu         sync.Mutex
	queue      []*parcel // in order; those at the front that are stored have been removed
	byNumber   map[uint64]*parcel
	number     uint64
	epoch      uint64 // counts the tries; negative answers of an earlier one don't count
	onWire     int
	reconnects uint64
	last       string // id of the message that was put on the wire last
	stalled    bool   // nothing is sent but the message that is tried alone
	probing    bool   // that one is on the wire
	episode    bool   // a failure has been logged and no message been stored since
	backoff    time.Duration
	progress   time.Time // when a PubAck came, or the wire was empty
	nextTry    time.Time
	closed     bool
}

type parcel struct {
	ctx    context.Context
	number uint64
	msg    *nats.Msg
	done   func(error)
	onWire bool
	gone   bool // stored, refused for good, or given up
}

const (
	publishWindow = 256              // enough for a round trip at full speed; bounds what one sync of the disk delays
	ackTimeout    = 10 * time.Second // without any PubAck; a slow disk syncs hundreds of messages in that time
	backoffMin    = 50 * time.Millisecond
	backoffMax    = 5 * time.Second
)

var errAckTimeout = errors.New("no PubAck in time")

func newPublisher(nc *nats.Conn, what string, log *slog.Logger) (*publisher, error) {
	p := &publisher{
		nc: nc, log: log, what: what, inbox: nc.NewInbox(), nonce: nuid.Next(),
		window: make(chan struct{}, publishWindow), wake: make(chan struct{}, 1), ended: make(chan struct{}),
		status:   nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED),
		byNumber: map[uint64]*parcel{}, backoff: backoffMin, reconnects: nc.Stats().Reconnects,
	}
	sub, err := nc.Subscribe(p.inbox+".*.*", p.answer)
	if err != nil {
		nc.RemoveStatusListener(p.status)
		return nil, err
	}
	p.sub = sub
	_ = sub.SetPendingLimits(-1, -1) // bounded by the window
	p.idle.Go(p.run)
	return p, nil
}

// send is bridge.Sink.Send for a message whose subject a stream captures. The message belongs to the
// publisher from now on. When ctx ends before the message is stored, done is not called.
func (p *publisher) send(ctx context.Context, m *nats.Msg, done func(error)) error {
	select {
	case p.window <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-p.ended:
		return nats.ErrConnectionClosed
	}
	if m.Header == nil {
		m.Header = nats.Header{}
	}
	p.mu.Lock()
	p.number++
	x := &parcel{ctx: ctx, number: p.number, msg: m, done: done}
	m.Header.Set(jetstream.MsgIDHeader, p.nonce+"-"+strconv.FormatUint(x.number, 36))
	if n := size(m); int64(n) > p.nc.MaxPayload() {
		p.mu.Unlock()
		<-p.window
		done(bridge.Rejectf(bridge.CodeTooLarge, "the message has %d bytes with its headers, NATS takes %d", n, p.nc.MaxPayload()))
		return nil
	}
	p.queue = append(p.queue, x)
	p.byNumber[x.number] = x
	if !p.stalled {
		p.put(x)
	}
	p.mu.Unlock()
	return nil
}

// put sends one parcel. Held: mu.
func (p *publisher) put(x *parcel) {
	if p.dropped() && p.onWire > 0 {
		p.lost(nats.ErrDisconnected)
		return
	}
	if p.onWire > 0 {
		x.msg.Header.Set(jetstream.ExpectedLastMsgIDHeader, p.last)
	} else {
		x.msg.Header.Del(jetstream.ExpectedLastMsgIDHeader)
	}
	x.msg.Reply = p.inbox + "." + strconv.FormatUint(p.epoch, 36) + "." + strconv.FormatUint(x.number, 36)
	if err := p.nc.PublishMsg(x.msg); err != nil {
		p.stall(err)
		return
	}
	if p.onWire == 0 {
		p.progress = time.Now()
		p.signal()
	}
	x.onWire = true
	p.onWire++
	p.last = x.msg.Header.Get(jetstream.MsgIDHeader)
}

// answer takes a PubAck, or an error in its place.
func (p *publisher) answer(m *nats.Msg) {
	epoch, number, ok := p.parseReply(m.Subject)
	if !ok {
		return
	}
	err := pubAck(m)
	p.mu.Lock()
	x := p.byNumber[number]
	if x == nil || p.closed {
		p.mu.Unlock()
		return
	}
	p.progress = time.Now()
	var rejection *bridge.Rejection
	switch {
	case err == nil, errors.As(err, &rejection):
		p.remove(x)
		p.recovered()
	case epoch == p.epoch:
		p.off(x)
		p.stall(err)
		p.mu.Unlock()
		return
	default:
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	<-p.window
	x.done(err)
}

func (p *publisher) parseReply(subject string) (epoch, number uint64, ok bool) {
	first, second, ok := strings.Cut(strings.TrimPrefix(subject, p.inbox+"."), ".")
	if !ok {
		return 0, 0, false
	}
	epoch, err1 := strconv.ParseUint(first, 36, 64)
	number, err2 := strconv.ParseUint(second, 36, 64)
	return epoch, number, err1 == nil && err2 == nil
}

// pubAck is nil when the message is stored, or was before; a *bridge.Rejection when it never will be;
// any other error passes.
func pubAck(m *nats.Msg) error {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return errors.New("no stream answers")
	}
	var ack struct {
		Stream string              `json:"stream"`
		Error  *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return errors.New("the PubAck is no JSON")
	}
	switch {
	case ack.Error == nil && ack.Stream != "":
		return nil
	case ack.Error == nil:
		return errors.New("the PubAck names no stream")
	case ack.Error.ErrorCode == codeTooLarge:
		return bridge.Rejectf(bridge.CodeTooLarge, "the stream refuses it: %s", ack.Error.Description)
	}
	return ack.Error
}

// remove takes a parcel out, wherever it stands. Held: mu.
func (p *publisher) remove(x *parcel) {
	p.off(x)
	x.gone = true
	delete(p.byNumber, x.number)
	for len(p.queue) > 0 && p.queue[0].gone {
		p.queue[0] = nil
		p.queue = p.queue[1:]
	}
}

// off takes a parcel from the wire. Held: mu.
func (p *publisher) off(x *parcel) {
	if x.onWire {
		x.onWire = false
		p.onWire--
	}
	if p.stalled && p.onWire == 0 {
		p.signal()
	}
}

// stall stops sending until the next try. Held: mu.
func (p *publisher) stall(err error) {
	if !p.stalled || p.probing {
		p.stalled, p.probing = true, false
		p.nextTry = time.Now().Add(p.backoff)
		p.backoff = min(2*p.backoff, backoffMax)
		p.signal()
	}
	// A wrong predecessor follows from a failure that has been logged, or somebody else has written
	// into the stream.
	if !p.episode && apiCode(err) != codeWrongLast {
		p.episode = true
		p.log.Warn("cannot store, trying again", "what", p.what, "error", err)
	}
}

// recovered notes that the stream took a message. Held: mu.
func (p *publisher) recovered() {
	if p.stalled && !p.probing {
		return
	}
	p.backoff = backoffMin
	if p.episode {
		p.episode = false
		p.log.Info("storing again", "what", p.what)
	}
	if p.probing {
		p.stalled, p.probing = false, false
		for _, x := range p.queue {
			if p.put(x); p.stalled {
				return
			}
		}
	}
}

func (p *publisher) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run watches over time-outs, the connection and the next round.
func (p *publisher) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-p.ended:
			return
		case <-p.wake:
		case <-timer.C:
		case s := <-p.status:
			p.mu.Lock()
			if p.dropped() {
				p.lost(nats.ErrDisconnected)
			}
			if s == nats.CONNECTED {
				p.nextTry = time.Now()
			}
			p.mu.Unlock()
		}
		timer.Reset(p.tend(time.Now()))
	}
}

// tend does what is due and returns when to look again.
func (p *publisher) tend(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.onWire > 0 {
		if left := p.progress.Add(ackTimeout).Sub(now); left > 0 {
			return left
		}
		p.lost(errAckTimeout)
	}
	switch {
	case !p.stalled:
		return time.Hour
	case now.Before(p.nextTry):
		return p.nextTry.Sub(now)
	case !p.nc.IsConnected():
		return backoffMax // the connection's return wakes us earlier
	}
	p.again()
	return ackTimeout
}

// dropped tells whether the connection is gone, or another than when it was asked last. Without it a
// message could be stored over the new connection before those that were lost with the old one.
// Held: mu.
func (p *publisher) dropped() bool {
	if n := p.nc.Stats().Reconnects; n != p.reconnects {
		p.reconnects = n
		return true
	}
	return !p.nc.IsConnected()
}

// lost takes everything from the wire: its PubAcks will not come. Held: mu.
func (p *publisher) lost(err error) {
	if p.onWire == 0 {
		return
	}
	for _, x := range p.queue {
		x.onWire = false
	}
	p.onWire = 0
	p.stall(err)
}

// again tries the first message that is still wanted. Held: mu.
func (p *publisher) again() {
	for len(p.queue) > 0 && p.queue[0].ctx.Err() != nil {
		p.remove(p.queue[0])
		<-p.window
	}
	p.epoch++
	if len(p.queue) == 0 {
		p.stalled = false
		return
	}
	p.probing = true
	p.put(p.queue[0])
}

// close drops what is not stored. No done is called after it.
func (p *publisher) close() {
	p.mu.Lock()
	again := p.closed
	p.closed = true
	p.mu.Unlock()
	if again {
		return
	}
	_ = p.sub.Unsubscribe()
	close(p.ended)
	p.idle.Wait()
	p.nc.RemoveStatusListener(p.status)
}
