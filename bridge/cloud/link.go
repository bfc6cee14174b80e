package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	paholog "github.com/eclipse/paho.golang/paho/log"
	"github.com/eclipse/paho.golang/paho/session"
)

const (
	connectTimeout = 10 * time.Second // for the network, TLS, and the answer to CONNECT together
	leaveTimeout   = time.Second      // for what is written at the end
)

// link is one connection. To paho it is the session's memory; what must outlive the connection is the
// Session's.
type link struct {
	s       *Session
	server  *url.URL
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

	wake    chan struct{} // there may be something to write
	pinging atomic.Bool   // a PINGREQ is due
	written chan struct{} // closed when the writer has ended

	once sync.Once
	mu   sync.Mutex
	subs map[uint16]chan<- packets.ControlPacket
}

// open connects to one server.
func (s *Session) open(ctx context.Context, u *url.URL) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	raw, err := s.dialNow(ctx, u)
	if err != nil {
		return nil, plain(err)
	}
	l := &link{
		s: s, server: u,
		wake: make(chan struct{}, 1), written: make(chan struct{}), subs: map[uint16]chan<- packets.ControlPacket{},
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	// A reader that waits for room in the inbox would not notice the failure: stop wakes it.
	l.conn = newConn(raw, s.cfg.MaxPacket, s.cfg.AckTimeout, l.stop)
	l.acks = newAcks(l.nudge)
	l.client = paho.NewClient(paho.ClientConfig{
		Conn: l.conn, Session: l, PingHandler: &watch{link: l}, AuthHandler: noAuth{}, PacketTimeout: connectTimeout,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){l.atMostOnce},
	})
	// paho's write of CONNECT does not look at ctx.
	inTime := context.AfterFunc(ctx, func() { l.conn.fail(ctx.Err()) })
	answer, err := l.client.Connect(ctx, s.connectPacket())
	inTime()
	if err == nil {
		return l, nil
	}
	l.down()
	cause := l.conn.lost()
	switch {
	case answer != nil && answer.ReasonCode >= 0x80:
		refusal := &brokerError{packet: "CONNACK", code: answer.ReasonCode}
		if p := answer.Properties; p != nil {
			refusal.text, refusal.reference = p.ReasonString, p.ServerReference
		}
		return nil, refusal
	case errors.Is(err, context.DeadlineExceeded), errors.Is(cause, context.DeadlineExceeded):
		return nil, fmt.Errorf("no CONNACK within %v", connectTimeout)
	case cause != nil:
		return nil, cause
	case errors.Is(err, io.EOF): // not of the stream but of the packet
		return nil, errors.New("malformed CONNACK: the broker does not speak MQTT 5")
	}
	return nil, err
}

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
	l.limits = limits{receiveMaximum: 1<<16 - 1}
	if p := ca.Properties; p != nil {
		l.expiry = p.SessionExpiryInterval
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
	s.out.connect(l.limits, l.present)
	s.link = l
	s.mu.Unlock()
	if l.present {
		s.inbox.purge(l.session)
	}
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
		var accused error
		if said := (*brokerError)(nil); errors.As(l.conn.lost(), &said) && said.accuses() {
			accused = said
		}
		l.stop()
		l.acks.close()
		s := l.s
		var ended []completion
		s.mu.Lock()
		if s.link == l {
			ended = s.out.lose(accused)
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
	})
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

// PacketReceived takes what the broker sends, but for QoS 0 messages.
func (l *link) PacketReceived(p *packets.ControlPacket, _ chan<- *packets.Publish) error {
	switch p := p.Content.(type) {
	case *packets.Puback:
		l.puback(p)
	case *packets.Publish:
		l.publish(p)
	case *packets.Pubrel:
		l.acks.answer(pubcompByte, p.PacketID)
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
	var done *completion
	var began *entry
	s.mu.Lock()
	if s.link == l {
		done, began = s.out.acked(p.PacketID, p.ReasonCode, time.Now())
	}
	s.mu.Unlock()
	if began != nil {
		text := (&brokerError{packet: "PUBACK", code: p.ReasonCode}).Error()
		s.log.Warn("the broker refuses messages for now; they are retried in order",
			"class", began.lane.class.String(), "topic", began.topic, "error", text)
		s.change(func(st *State) { st.LastError = fmt.Sprintf("topic %q: %s", began.topic, text) })
	}
	l.nudge()
	if done != nil {
		s.complete(*done)
	}
}

// publish takes a QoS 1 message. QoS 2 is never asked for, but a session that another client began may
// still hold such messages: they are taken like QoS 1, at least once.
func (l *link) publish(p *packets.Publish) {
	if p.PacketID == 0 || p.QoS > 2 {
		l.conn.fail(fmt.Errorf("malformed PUBLISH: QoS %d, packet identifier %d", p.QoS, p.PacketID))
		return
	}
	settle := l.acks.receive(p)
	if settle == nil {
		return
	}
	l.s.inbox.put(l.ctx, item{delivery(l.s.thing, p, time.Now(), settle), l.session})
}

// atMostOnce takes a QoS 0 message.
func (l *link) atMostOnce(p paho.PublishReceived) (bool, error) {
	l.s.inbox.put(l.ctx, item{delivery: delivery(l.s.thing, p.Packet.Packet(), time.Now(), nil)})
	return true, nil
}

// leave says goodbye: acknowledgements that are ready, then DISCONNECT 0x00, which keeps the session, or
// ends it. Then it waits until the broker has hung up: a connection that is closed with something unread is
// reset, and what the broker had not read yet is gone.
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

// noAuth stands where paho calls without looking. AUTH packets never get so far.
type noAuth struct{}

func (noAuth) Authenticate(*paho.Auth) *paho.Auth { return &paho.Auth{} }
func (noAuth) Authenticated()                     {}
