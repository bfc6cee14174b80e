package cloud

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// patience is how long a test waits for what should happen at once; a machine that is busy besides needs some of it.
const patience = 30 * time.Second

const thing = mapping.Thing("pump-07")

// stage is a session under test and the place where a test plays its broker, packet by packet. It
// lives in a synctest bubble: time passes only when everything waits.
type stage struct {
	t     *testing.T
	s     *Session
	calls chan net.Conn
	wrap  func(net.Conn) net.Conn // of the session's end of a connection; nil: as it is
	log   *records
	stop  context.CancelFunc
	ended chan struct{}

	mu     sync.Mutex
	states []State
	dialed []string
	small  []bool // whether they were to have small segments
	names  map[string][]netip.Addr
	link   thin                        // what the connections are made of
	refuse atomic.Pointer[net.OpError] // what dialing fails with; nil: it does not
}

// thin is a link that carries so many bytes a second each way; 0: any number.
type thin struct {
	up, down atomic.Int64
	bytes    atomic.Int64 // that came up
}

// thinConn is the broker's end of a connection over it.
type thinConn struct {
	net.Conn
	link *thin
}

func (c *thinConn) Read(p []byte) (int, error) {
	rate := int(c.link.up.Load())
	if rate > 0 {
		p = p[:min(len(p), max(1, rate/10))]
	}
	n, err := c.Conn.Read(p)
	c.link.bytes.Add(int64(n))
	if rate > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
	}
	return n, err
}

func (c *thinConn) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		rate, k := int(c.link.down.Load()), len(p)-n
		if rate > 0 {
			k = min(k, max(1, rate/10))
			time.Sleep(time.Duration(k) * time.Second / time.Duration(rate))
		}
		k, err = c.Conn.Write(p[n : n+k])
		n += k
	}
	return n, err
}

// play runs a test in a bubble with a running session. configure may change the configuration.
func play(t *testing.T, configure func(*Config), test func(*stage)) {
	t.Helper()
	playNamed(t, nil, configure, test)
}

// playNamed is the same with names that have addresses.
func playNamed(t *testing.T, names map[string][]netip.Addr, configure func(*Config), test func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		st := &stage{t: t, calls: make(chan net.Conn), log: &records{}, ended: make(chan struct{}), names: names}
		cfg := Config{
			Servers: []*url.URL{{Scheme: "mqtt", Host: "broker"}}, ClientID: "pump-07-client", Username: "pump", Password: "secret",
			Backoff: Backoff{Min: 100 * time.Millisecond, Max: time.Second, Takeover: 30 * time.Second},
		}
		if configure != nil {
			configure(&cfg)
		}
		st.s = NewSession(thing, cfg, Hooks{State: st.changed}, slog.New(st.log))
		st.s.dial, st.s.resolve = st.dial, st.resolve
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		st.stop = stop
		go func() {
			defer close(st.ended)
			if err := st.s.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		}()
		test(st)
		stop()
		<-st.ended
	})
}

func (st *stage) changed(s State) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.states = append(st.states, s)
}

// resolve knows what the test has put into names.
func (st *stage) resolve(_ context.Context, _, host string) ([]netip.Addr, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.names[host], nil
}

func (st *stage) dial(ctx context.Context, d dialing) (net.Conn, error) {
	where := d.server.url.Host
	if d.server.addr.IsValid() {
		where += "=" + d.server.addr.String()
	}
	st.mu.Lock()
	st.dialed = append(st.dialed, where)
	st.small = append(st.small, d.small)
	st.mu.Unlock()
	if err := st.refuse.Load(); err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	select {
	case st.calls <- theirs:
		if st.wrap != nil {
			ours = st.wrap(ours)
		}
		return d.wire.wrap(ours), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// peer is the broker's end of one connection.
type peer struct {
	t         *testing.T
	c         net.Conn
	in        chan *packets.ControlPacket
	connect   *packets.Connect
	subscribe *packets.Subscribe
	// unsubscribe are the filters that were unsubscribed in front of it
	unsubscribe []string
}

// call waits for the session to connect and reads its CONNECT.
func (st *stage) call() *peer {
	st.t.Helper()
	return st.answerCall(<-st.calls)
}

func (st *stage) answerCall(raw net.Conn) *peer {
	st.t.Helper()
	c := net.Conn(&thinConn{raw, &st.link})
	p := &peer{t: st.t, c: c, in: make(chan *packets.ControlPacket, 1<<17)}
	go func() {
		defer close(p.in)
		for {
			packet, err := packets.ReadPacket(c)
			if err != nil {
				return
			}
			p.in <- packet
		}
	}()
	p.connect = p.next().Content.(*packets.Connect)
	return p
}

// accept goes as far as SUBACK.
func (st *stage) accept(present bool, change ...func(*packets.Properties)) *peer {
	st.t.Helper()
	p := st.call()
	p.connack(0, present, change...)
	p.suback(nil)
	synctest.Wait()
	return p
}

func (p *peer) connack(code byte, present bool, change ...func(*packets.Properties)) {
	answer := &packets.Connack{ReasonCode: code, SessionPresent: present, Properties: &packets.Properties{}}
	for _, f := range change {
		f(answer.Properties)
	}
	p.send(answer)
}

// suback answers a SUBSCRIBE with a code for each filter; 1 if codes has none.
func (p *peer) suback(codes map[string]byte) {
	p.t.Helper()
	packet := p.next()
	if u, ok := packet.Content.(*packets.Unsubscribe); ok {
		p.unsubscribe = append(p.unsubscribe, u.Topics...)
		p.send(&packets.Unsuback{PacketID: u.PacketID, Reasons: make([]byte, len(u.Topics)), Properties: &packets.Properties{}})
		packet = p.next()
	}
	sub, ok := packet.Content.(*packets.Subscribe)
	if !ok {
		p.t.Fatal("expected a SUBSCRIBE")
	}
	p.subscribe = sub
	answer := &packets.Suback{PacketID: sub.PacketID, Properties: &packets.Properties{}}
	for _, s := range sub.Subscriptions {
		code, ok := codes[s.Topic]
		if !ok {
			code = 1
		}
		answer.Reasons = append(answer.Reasons, code)
	}
	p.send(answer)
}

func (p *peer) send(packet packets.Packet) {
	p.t.Helper()
	var b bytes.Buffer
	if _, err := packet.WriteTo(&b); err != nil {
		p.t.Fatal(err)
	}
	p.raw(b.Bytes())
}

func (p *peer) raw(b []byte) {
	// The session may be gone; tests look at what it sends.
	_, _ = p.c.Write(b)
}

// next is the packet that comes next; a test that waits in vain fails.
func (p *peer) next() *packets.ControlPacket {
	p.t.Helper()
	select {
	case packet, ok := <-p.in:
		if !ok {
			p.t.Fatal("the session closed the connection")
		}
		return packet
	case <-time.After(time.Hour):
		p.t.Fatal("nothing came")
		return nil
	}
}

// closed waits until the session has closed the connection, and returns what came before.
func (p *peer) closed() (before []*packets.ControlPacket) {
	p.t.Helper()
	for {
		select {
		case packet, ok := <-p.in:
			if !ok {
				return before
			}
			before = append(before, packet)
		case <-time.After(time.Hour):
			p.t.Fatal("the connection stays open")
		}
	}
}

// come returns everything that has come when all is quiet, as text: "P3 e/1" for the PUBLISH of
// packet identifier 3 with payload "1" on the event channel, "D3" for a duplicate, "A7" for a PUBACK.
func (p *peer) come() string {
	p.t.Helper()
	synctest.Wait()
	var out []string
	for {
		select {
		case packet, ok := <-p.in:
			if !ok {
				return strings.Join(append(out, "closed"), " ")
			}
			out = append(out, spell(packet))
		default:
			return strings.Join(out, " ")
		}
	}
}

func spell(packet *packets.ControlPacket) string {
	switch c := packet.Content.(type) {
	case *packets.Publish:
		kind := "P"
		if c.Duplicate {
			kind = "D"
		}
		return fmt.Sprintf("%s%d:%s", kind, c.PacketID, c.Payload)
	case *packets.Puback:
		return fmt.Sprintf("A%d", c.PacketID)
	case *packets.Disconnect:
		return fmt.Sprintf("DISCONNECT(%#02x)", c.ReasonCode)
	}
	return packet.PacketType()
}

func (p *peer) puback(id uint16, code byte) {
	p.send(&packets.Puback{PacketID: id, ReasonCode: code, Properties: &packets.Properties{}})
}

func (p *peer) cut() {
	p.c.Close()
	synctest.Wait()
}

func (p *peer) publish(id uint16, topic, payload string, change ...func(*packets.Publish)) {
	m := &packets.Publish{PacketID: id, QoS: 1, Topic: topic, Payload: []byte(payload), Properties: &packets.Properties{}}
	for _, f := range change {
		f(m)
	}
	p.send(m)
}

func dup(p *packets.Publish) { p.Duplicate = true }

func receiveMaximum(n uint16) func(*packets.Properties) {
	return func(p *packets.Properties) { p.ReceiveMaximum = &n }
}

func event(payload string) bridge.Message {
	return bridge.Message{Address: mapping.Address{Thing: thing, Channel: mapping.Event, ID: "e"}, Payload: []byte(payload)}
}

func response(payload string) bridge.Message {
	return bridge.Message{Address: mapping.Address{Thing: thing, Channel: mapping.CommandResponse, ID: "x"}, Payload: []byte(payload)}
}

// outcome notes what done was called with.
type outcome struct {
	mu   sync.Mutex
	errs []error
}

func (o *outcome) done(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.errs = append(o.errs, err)
}

func (o *outcome) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprint(o.errs)
}

// send hands messages over and returns their outcomes.
func (st *stage) send(messages ...bridge.Message) []*outcome {
	st.t.Helper()
	var out []*outcome
	for _, m := range messages {
		o := &outcome{}
		if err := st.s.Send(context.Background(), m, o.done); err != nil {
			st.t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

func events(from, to int) (out []bridge.Message) {
	for i := from; i <= to; i++ {
		out = append(out, event(strconv.Itoa(i)))
	}
	return out
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// records keeps log records.
type records struct {
	mu    sync.Mutex
	lines []string
}

func (r *records) Enabled(context.Context, slog.Level) bool { return true }
func (r *records) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *records) WithGroup(string) slog.Handler            { return r }
func (r *records) Handle(_ context.Context, rec slog.Record) error {
	line := rec.Level.String() + " " + rec.Message
	rec.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	return nil
}

// count is the number of records of a level or worse that contain a text.
func (r *records) count(text string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}
