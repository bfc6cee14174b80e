package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	paholog "github.com/eclipse/paho.golang/paho/log"
	"github.com/eclipse/paho.golang/paho/session"

	"fleetbridge/bridge"
)

const leaveTimeout = time.Second // for what is written at the end

// link is one connection. To paho it is the session's memory; what must outlive the connection is the
// Session's.
type link struct {
	s       *Session
	server  server
	conn    *conn
	client  *paho.Client
	acks    *acks
	ctx     context.Context // ends with the connection
	stop    context.CancelFunc
	session int
	present bool // the broker had kept the session
	limits  limits
	wild    bool    // the broker takes wildcards
	weak    bool    // a filter was granted at QoS 0 only
	expiry  *uint32 // how long the broker keeps the session, in seconds; nil: as asked

	patience  time.Duration // how long nothing may move while an answer is due
	alive     time.Duration // the keep-alive, the smaller one of both sides'
	began     time.Time     // when CONNACK came
	roundTrip time.Duration // from CONNECT to it
	question  atomic.Pointer[question]

	// What the connection has done; guarded by the session's lock.
	acked      int
	sent       time.Time
	subscribed bool
	blamed     bool
	tested     bool
	flying     int // at the end

	wake    chan struct{} // there may be something to write
	pinging atomic.Bool   // a PINGREQ is due
	written chan struct{} // closed when the writer has ended

	aliases aliases // only for the reader

	once sync.Once
	mu   sync.Mutex
	subs map[uint16]chan<- packets.ControlPacket
	// How many UNSUBSCRIBE packets were sent, and how many of them the broker has carried out.
	asked, forgot int
}

// open connects to one server, as long as something moves within its patience.
func (s *Session) open(ctx context.Context, try *attempt) (*link, error) {
	patience := try.silent
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	wire := &meter{}
	go wire.guard(ctx, patience, cancel)
	raw, err := s.dialNow(ctx, dialing{server: try.server, wire: wire, brief: try.tcp, small: s.small, try: try})
	if err != nil {
		for i, m := range try.missed {
			if try.missed[i].err = plain(m.err); !wire.connected() {
				try.missed[i].err = unopened(ctx, wire, m.err)
			}
		}
		return nil, unopened(ctx, wire, err)
	}
	if s.cfg.Permit != nil && time.Since(s.permittedAt) > permitLife { // dialling has taken long
		if err := s.permit(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
	}
	l := &link{
		s: s, server: try.server, patience: patience, alive: s.cfg.KeepAlive,
		wake: make(chan struct{}, 1), written: make(chan struct{}), subs: map[uint16]chan<- packets.ControlPacket{},
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	// A reader that waits for room in the inbox would not notice the failure: stop wakes it.
	l.conn = newConn(raw, wire, s.cfg.MaxPacket, l.stop)
	l.acks = newAcks(l.nudge)
	l.client = paho.NewClient(paho.ClientConfig{
		Conn: l.conn, Session: l, PingHandler: &watch{link: l}, AuthHandler: noAuth{}, PacketTimeout: forever,
	})
	// paho's write of CONNECT does not look at ctx.
	inTime := context.AfterFunc(ctx, func() { l.conn.fail(context.Cause(ctx)) })
	l.began = time.Now()
	answer, err := l.client.Connect(ctx, s.connectPacket())
	inTime()
	if err == nil {
		return l, nil
	}
	l.down()
	return nil, l.unconnected(ctx, answer, err)
}

// forever switches paho's own timeouts off. They count packets; watch and the meter count bytes.
const forever = 1 << 20 * time.Hour

func (s *Session) connectPacket() *paho.Connect {
	expiry := uint32(seconds(s.cfg.SessionExpiry, 1<<32-1))
	largest := uint32(s.cfg.MaxPacket)
	return &paho.Connect{
		ClientID: s.cfg.ClientID, KeepAlive: uint16(seconds(s.cfg.KeepAlive, 1<<16-1)),
		Username: s.cfg.Username, UsernameFlag: s.cfg.Username != "",
		Password: []byte(s.cfg.Password), PasswordFlag: s.cfg.Password != "",
		Properties: &paho.ConnectProperties{
			SessionExpiryInterval: &expiry, ReceiveMaximum: &s.cfg.ReceiveMaximum, MaximumPacketSize: &largest,
			RequestProblemInfo: true,
		},
	}
}

// ConAckReceived begins the connection.
func (l *link) ConAckReceived(_ io.Writer, _ *packets.Connect, ca *packets.Connack) error {
	if ca.ReasonCode != 0 {
		return fmt.Errorf("CONNACK 0x%02X: the broker does not speak MQTT 5", ca.ReasonCode)
	}
	l.present, l.wild = ca.SessionPresent, true
	l.roundTrip, l.began = time.Since(l.began), time.Now()
	l.limits = limits{receiveMaximum: 1<<16 - 1}
	if p := ca.Properties; p != nil {
		l.expiry = p.SessionExpiryInterval
		if p.ServerKeepAlive != nil && *p.ServerKeepAlive > 0 { // 0 is no limit of the broker's: ours stays
			l.alive = min(l.alive, time.Duration(*p.ServerKeepAlive)*time.Second)
		}
		if p.ReceiveMaximum != nil && *p.ReceiveMaximum > 0 {
			l.limits.receiveMaximum = int(*p.ReceiveMaximum)
		}
		if p.MaximumPacketSize != nil {
			l.limits.packetSize = int(*p.MaximumPacketSize)
		}
		l.limits.atMostOnce = p.MaximumQOS != nil && *p.MaximumQOS == 0
		l.wild = p.WildcardSubAvailable == nil || *p.WildcardSubAvailable != 0
	}
	s := l.s
	s.mu.Lock()
	if !l.present || s.sessions == 0 {
		s.sessions++
	}
	l.session = s.sessions
	if !l.server.same(s.path) {
		s.path, s.out.hole = l.server, hole{}
	}
	s.out.connect(l.limits, l.present)
	s.link = l
	s.mu.Unlock()
	if l.present {
		s.inbox.purge(l.session)
	}
	l.conn.message = l.receive // paho reads on after this
	s.work.Go(l.write)
	return nil
}

// ConnectionLost ends the connection; p is the broker's DISCONNECT, if it sent one.
func (l *link) ConnectionLost(p *packets.Disconnect) error {
	if p != nil {
		said := &brokerError{packet: "DISCONNECT", code: p.ReasonCode}
		if p.Properties != nil {
			said.text, said.reference = p.Properties.ReasonString, p.Properties.ServerReference
		}
		l.conn.fail(said)
	}
	l.down()
	return nil
}

// down gives back everything that belongs to the connection, once.
func (l *link) down() {
	l.once.Do(func() {
		said := l.said()
		l.stop()
		l.acks.close()
		s := l.s
		var ended []completion
		s.mu.Lock()
		if s.link == l {
			l.flying = s.out.flight.len
			ended = s.out.lose(l.loss())
			l.blamed = slices.ContainsFunc(ended, func(c completion) bool { return !errors.Is(c.err, bridge.ErrNotConnected) })
			l.tested = s.out.tested
			l.tooFast(said, kickedRest)
			s.link = nil
		}
		s.mu.Unlock()
		l.mu.Lock()
		for id, answer := range l.subs {
			delete(l.subs, id)
			answer <- packets.ControlPacket{}
		}
		l.mu.Unlock()
		for _, c := range ended {
			s.complete(c)
		}
		s.standChanged()
	})
}

// said is the broker's DISCONNECT; nil: it sent none.
func (l *link) said() *brokerError {
	var said *brokerError
	if errors.As(l.conn.lost(), &said) {
		return said
	}
	return nil
}

// ending sums the connection up when it is over.
func (l *link) ending() ending {
	out, in := l.conn.wire.moved()
	e := ending{
		cause: l.conn.lost(), said: l.said(), at: time.Now(), lived: time.Since(l.began), roundTrip: l.roundTrip, cost: out + in,
	}
	if e.cause == nil {
		e.cause = errors.New("the broker sent a packet that is malformed or out of place")
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	e.kept = l.present
	e.subscribed, e.acked, e.flying, e.sent, e.blamed, e.tested = l.subscribed, l.acked, l.flying, l.sent, l.blamed, l.tested
	return e
}

// begin lets messages go.
func (l *link) begin() {
	s := l.s
	s.mu.Lock()
	if s.link == l {
		s.out.begin(time.Now())
	}
	s.mu.Unlock()
	l.nudge()
}

// asks notes that an answer is due until done is called. If nothing moves meanwhile, watch ends the connection.
func (l *link) asks(answer string) (done func()) {
	l.question.Store(&question{answer: answer, since: time.Now()})
	return func() { l.question.Store(nil) }
}

// tooFast slows down when a broker says that messages come too fast. The session's lock is held.
func (l *link) tooFast(said *brokerError, rest time.Duration) {
	if said == nil || said.code != 0x96 && said.code != 0x97 {
		return
	}
	now := time.Now()
	if o := l.s.out; o.pace.tooFast(now, rest) {
		l.s.log.Info("fewer messages are sent for a while", "error", said.Error(), "messages_per_second", math.Ceil(o.pace.limit(now)))
	}
}

// AddToSession gives a SUBSCRIBE its identifier. Publishing does not come this way.
func (l *link) AddToSession(_ context.Context, p session.Packet, answer chan<- packets.ControlPacket) error {
	if p.Type() != packets.SUBSCRIBE {
		return fmt.Errorf("packet type %d is not sent this way", p.Type())
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.link != l {
		return session.ErrNoConnection
	}
	id := l.s.out.reserveLast()
	if id == 0 {
		return session.ErrPacketIdentifiersExhausted
	}
	p.SetIdentifier(id)
	l.mu.Lock()
	l.subs[id] = answer
	l.mu.Unlock()
	return nil
}

// PacketReceived takes what the broker sends, but for messages; see receive.
func (l *link) PacketReceived(p *packets.ControlPacket, _ chan<- *packets.Publish) error {
	switch p := p.Content.(type) {
	case *packets.Puback:
		l.puback(p)
	case *packets.Pubrel:
		l.acks.answer(pubcompByte, p.PacketID)
	case *packets.Unsuback:
		l.unsuback(p)
	case *packets.Suback:
		l.s.mu.Lock()
		if l.s.link == l {
			l.s.out.release(p.PacketID)
		}
		l.s.mu.Unlock()
		l.mu.Lock()
		if answer := l.subs[p.PacketID]; answer != nil {
			delete(l.subs, p.PacketID)
			answer <- packets.ControlPacket{Content: p, FixedHeader: packets.FixedHeader{Type: packets.SUBACK}}
		}
		l.mu.Unlock()
	}
	return nil
}

func (l *link) puback(p *packets.Puback) {
	s := l.s
	a := answer{code: p.ReasonCode}
	if p.Properties != nil {
		a.text = p.Properties.ReasonString
	}
	var done *completion
	s.mu.Lock()
	if s.link == l {
		if done = s.out.acked(p.PacketID, a, time.Now()); done != nil {
			l.acked++
		}
		l.tooFast(&brokerError{packet: "PUBACK", code: p.ReasonCode}, refusedRest)
	}
	changed := s.out.standing() != s.stands
	s.mu.Unlock()
	if changed {
		s.standChanged()
	}
	l.nudge()
	if done != nil {
		s.complete(*done)
	}
}

// leave sends the acknowledgements that are ready, and then DISCONNECT 0x00, which keeps the session unless end is set. Then
// it waits until the broker has closed the connection: if this side closed it with something unread, the connection would
// be reset, and what the broker has not read yet would be lost.
func (l *link) leave(end bool) {
	late := time.AfterFunc(leaveTimeout, func() { l.conn.fail(errors.New("the broker does not read")) })
	defer late.Stop()
	l.stop()
	<-l.written
	if l.conn.send(appendDisconnect(l.acks.appendReady(nil), end)) == nil {
		<-l.client.Done()
	}
	_ = l.client.Disconnect(&paho.Disconnect{}) // ends what paho had started
	l.down()
}

// The rest of session.SessionManager has nothing to do here.

func (l *link) Ack(*packets.Publish) error    { return nil }
func (l *link) Close() error                  { return nil }
func (l *link) SetErrorLogger(paholog.Logger) {}
func (l *link) SetDebugLogger(paholog.Logger) {}

// noAuth is there because paho calls it without a check for nil. AUTH packets are refused before they get to it.
type noAuth struct{}

func (noAuth) Authenticate(*paho.Auth) *paho.Auth { return &paho.Auth{} }
func (noAuth) Authenticated()                     {}
