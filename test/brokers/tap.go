package brokers

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/eclipse/paho.golang/packets"

	"fleetbridge/fleetsim"
)

// Tap stands in front of a broker and keeps every MQTT 5 packet that passes.
//
// With a namespace its clients have the broker for themselves: on the broker's side $emqx/ at the beginning of topics and
// filters is another word of the same length, and client ids have an end of their own.
type Tap struct {
	broker   string
	space    string // what is there in the place of $emqx; empty: nothing is changed
	listener net.Listener
	all      sync.WaitGroup

	mu      sync.Mutex
	packets []Packet
	conns   map[net.Conn]struct{}
	number  int
	changed chan struct{} // closed at the next packet
	closed  bool
}

// Packet is one of the log, as the client has or gets it.
type Packet struct {
	Conn    int    // number of its connection, from 1
	Client  string // id of the client
	Flow    fleetsim.Flow
	Content packets.Packet
}

const emqx = "$emqx"

// NewTap starts one in front of a broker. The namespace is empty, or five bytes.
func NewTap(broker, space string) (*Tap, error) {
	u, err := url.Parse(broker)
	if err != nil {
		return nil, fmt.Errorf("tap: %w", err)
	}
	if space != "" && len(space) != len(emqx) {
		return nil, fmt.Errorf("tap: namespace %q: five bytes are needed", space)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("tap: %w", err)
	}
	t := &Tap{broker: u.Host, space: space, listener: l, conns: map[net.Conn]struct{}{}, changed: make(chan struct{})}
	t.all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			t.all.Go(func() { t.serve(client) })
		}
	})
	return t, nil
}

// Bare is another one in front of the same broker, without a namespace.
func (t *Tap) Bare() (*Tap, error) { return NewTap("mqtt://"+t.broker, "") }

// URL is where clients connect.
func (t *Tap) URL() string { return "mqtt://" + t.listener.Addr().String() }

// Close ends every connection.
func (t *Tap) Close() {
	_ = t.listener.Close()
	t.mu.Lock()
	t.closed = true
	for c := range t.conns {
		_ = c.Close()
	}
	t.mu.Unlock()
	t.all.Wait()
}

// Log is what has passed, in order: an acknowledgement stands behind what it acknowledges.
func (t *Tap) Log() []Packet {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.packets[:len(t.packets):len(t.packets)]
}

// Published is what clients have published on a topic, the payloads in order.
func (t *Tap) Published(topic string) (payloads [][]byte) {
	for _, k := range t.Log() {
		if c, is := k.Content.(*packets.Publish); is && k.Flow == fleetsim.FromClient && c.Topic == topic {
			payloads = append(payloads, c.Payload)
		}
	}
	return payloads
}

// Wait shows every packet from one on, past and future, and returns when enough says so.
func (t *Tap) Wait(ctx context.Context, from int, enough func(Packet) bool) error {
	for {
		t.mu.Lock()
		log, changed := t.packets[from:len(t.packets):len(t.packets)], t.changed
		t.mu.Unlock()
		if slices.ContainsFunc(log, enough) {
			return nil
		}
		from += len(log)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *Tap) serve(client net.Conn) {
	defer client.Close()
	broker, err := net.Dial("tcp", t.broker)
	if err != nil {
		return // the broker is away
	}
	defer broker.Close()
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.number++
	p := &pipe{Tap: t, number: t.number}
	t.conns[client], t.conns[broker] = struct{}{}, struct{}{}
	t.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.run(client, broker, fleetsim.FromClient) })
	both.Go(func() { p.run(broker, client, fleetsim.FromBroker) })
	both.Wait()
	t.mu.Lock()
	delete(t.conns, client)
	delete(t.conns, broker)
	t.mu.Unlock()
}

// pipe is one connection.
type pipe struct {
	*Tap
	number int
	client string // written once, by the CONNECT, before anything comes from the broker
}

// run passes one direction on until it ends.
func (p *pipe) run(from, to net.Conn, flow fleetsim.Flow) {
	defer func() { _ = to.(*net.TCPConn).CloseWrite() }() // what is under way in the other direction arrives
	in := bufio.NewReader(from)
	for {
		var raw bytes.Buffer
		cp, err := packets.ReadPacket(io.TeeReader(in, &raw))
		if err != nil {
			return
		}
		out := raw.Bytes()
		if connect, is := cp.Content.(*packets.Connect); is {
			out = p.connect(cp, connect, out)
		} else if p.space != "" {
			p.translate(cp.Content, flow, out)
		}
		p.keep(Packet{p.number, p.name(), flow, cp.Content})
		if _, err := to.Write(out); err != nil {
			_ = from.Close()
			return
		}
	}
}

func (p *pipe) keep(k Packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.packets = append(p.packets, k)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pipe) name() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.client
}

// connect learns who the client is, and returns the packet for the broker.
func (p *pipe) connect(cp *packets.ControlPacket, c *packets.Connect, raw []byte) []byte {
	p.mu.Lock()
	p.client = c.ClientID
	p.mu.Unlock()
	if p.space == "" {
		return raw
	}
	var out bytes.Buffer
	c.ClientID += "-" + p.space[1:]
	if _, err := cp.WriteTo(&out); err != nil {
		return raw
	}
	c.ClientID = p.client
	return out.Bytes()
}

// translate changes the topics in a packet's bytes.
func (p *pipe) translate(content packets.Packet, flow fleetsim.Flow, raw []byte) {
	from, to := emqx+"/", p.space+"/"
	if flow == fleetsim.FromBroker {
		from, to = to, from
	}
	switch c := content.(type) {
	case *packets.Publish:
		if strings.HasPrefix(c.Topic, from) {
			copy(raw[bytes.Index(raw, []byte(c.Topic)):], to)
			if flow == fleetsim.FromBroker {
				c.Topic = to + c.Topic[len(from):]
			}
		}
	case *packets.Subscribe, *packets.Unsubscribe:
		for rest := raw; ; {
			at := bytes.Index(rest, []byte(from))
			if at < 0 {
				return
			}
			rest = rest[at+copy(rest[at:], to):]
		}
	}
}
