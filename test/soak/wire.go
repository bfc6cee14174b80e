package soak

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"fleetbridge/fleetsim"
)

// Wire stands in front of a real broker and speaks for it: it passes MQTT packets on, byte for byte,
// unless the scenario's rule says otherwise. So a broker can be seen to misbehave while its sessions
// are real ones.
type Wire struct {
	target   string
	listener net.Listener
	all      sync.WaitGroup
	// taken, if set, is told of every message that the broker has acknowledged with success.
	taken func(*packets.Publish)
	bill  *bill

	mu    sync.Mutex
	rule  Rule
	pairs map[*pair]struct{}
	ended bool
}

// Packet is one on its way.
type Packet struct {
	Flow fleetsim.Flow
	Type fleetsim.Packet
	Raw  []byte
}

// Verdict is what becomes of a packet; the zero value passes it on.
type Verdict struct {
	Drop    bool
	Instead []byte // sent on in its place
	Answer  []byte // sent back
	Close   bool   // the connection, after that
}

// Rule decides on one packet after the other, of all connections. It must not block.
type Rule func(Packet) Verdict

// pair is a client's connection and the broker's that belongs to it.
type pair struct {
	client, broker net.Conn
	mu             sync.Mutex // held while writing to the client
	flight         map[uint16]*packets.Publish
}

// NewWire starts one in front of a broker.
func NewWire(broker string, taken func(*packets.Publish)) (*Wire, error) {
	u, err := url.Parse(broker)
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	w := &Wire{target: u.Host, listener: l, taken: taken, bill: newBill(), pairs: map[*pair]struct{}{}}
	w.all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			w.all.Go(func() { w.serve(client) })
		}
	})
	return w, nil
}

// URL is where clients connect.
func (w *Wire) URL() string { return "mqtt://" + w.listener.Addr().String() }

// Close ends every connection.
func (w *Wire) Close() {
	_ = w.listener.Close()
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.Drop()
	w.all.Wait()
}

// Set puts a rule in the place of the last one; nil passes everything on.
func (w *Wire) Set(r Rule) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rule = r
}

// Drop closes every connection.
func (w *Wire) Drop() { w.each(func(p *pair) { p.close() }) }

// Say sends a packet to every client, in the broker's name, and nothing after it. The client closes
// the connection: closing it here could take the packet back.
func (w *Wire) Say(packet []byte) {
	w.each(func(p *pair) {
		p.send(packet)
		_ = p.client.(*net.TCPConn).CloseWrite()
	})
}

func (w *Wire) each(f func(*pair)) {
	w.mu.Lock()
	var all []*pair
	for p := range w.pairs {
		all = append(all, p)
	}
	w.mu.Unlock()
	for _, p := range all {
		f(p)
	}
}

func (w *Wire) serve(client net.Conn) {
	defer client.Close()
	broker, err := net.DialTimeout("tcp", w.target, 5*time.Second)
	if err != nil {
		return
	}
	p := &pair{client: client, broker: broker, flight: map[uint16]*packets.Publish{}}
	w.mu.Lock()
	w.pairs[p] = struct{}{}
	ended := w.ended
	w.mu.Unlock()
	if ended {
		p.close()
	}
	var both sync.WaitGroup
	both.Go(func() { w.pipe(p, fleetsim.FromClient); p.close() })
	both.Go(func() { w.pipe(p, fleetsim.FromBroker); p.close() })
	both.Wait()
	w.mu.Lock()
	delete(w.pairs, p)
	w.mu.Unlock()
}

func (p *pair) close() {
	_ = p.client.Close()
	_ = p.broker.Close()
}

// send writes to the client.
func (p *pair) send(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.client.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, _ = p.client.Write(b) // the reader notices
}

// pipe passes one direction on until it ends.
func (w *Wire) pipe(p *pair, flow fleetsim.Flow) {
	from, on, back := p.client, func(b []byte) { _, _ = p.broker.Write(b) }, p.send
	if flow == fleetsim.FromBroker {
		from, on, back = p.broker, back, on
	}
	in := bufio.NewReader(from)
	for {
		raw, passed, err := w.read(p, flow, in)
		if err != nil {
			return
		}
		k := Packet{Flow: flow, Type: fleetsim.Packet(raw[0] >> 4), Raw: raw}
		w.bill.note(k)
		w.mu.Lock()
		v := Verdict{}
		if w.rule != nil && !passed {
			v = w.rule(k)
		}
		w.mu.Unlock()
		if len(v.Answer) > 0 {
			back(v.Answer)
		}
		switch {
		case len(v.Instead) > 0:
			on(v.Instead)
		case !v.Drop:
			p.watch(w, k)
			if !passed {
				on(raw)
			}
		}
		if v.Close {
			return
		}
	}
}

// watch sees what the client publishes and the broker takes.
func (p *pair) watch(w *Wire, k Packet) {
	if w.taken == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case k.Flow == fleetsim.FromClient && k.Type == fleetsim.PUBLISH:
		m := k.publish()
		p.flight[m.PacketID] = m
	case k.Flow == fleetsim.FromBroker && k.Type == fleetsim.PUBACK:
		id := binary.BigEndian.Uint16(k.Raw[2:])
		m := p.flight[id]
		delete(p.flight, id)
		if m != nil && (len(k.Raw) < 5 || k.Raw[4] < 0x80) {
			w.taken(m)
		}
	}
}

// publish decodes a PUBLISH.
func (k Packet) publish() *packets.Publish {
	cp, err := packets.ReadPacket(bytes.NewReader(k.Raw))
	if err != nil {
		return &packets.Publish{}
	}
	m, ok := cp.Content.(*packets.Publish)
	if !ok {
		return &packets.Publish{}
	}
	return m
}

// read reads the next packet. While there is no rule, what goes up is passed on as it comes, as a broker judges by it
// whether the client is alive.
func (w *Wire) read(p *pair, flow fleetsim.Flow, in *bufio.Reader) (raw []byte, passed bool, err error) {
	if _, err := in.Peek(1); err != nil {
		return nil, false, err
	}
	w.mu.Lock()
	passed = w.rule == nil && w.taken == nil && flow == fleetsim.FromClient
	w.mu.Unlock()
	from := reader(in)
	if passed {
		from = bytewise{io.TeeReader(in, p.broker)}
	}
	raw, err = readPacket(from)
	return raw, passed, err
}

type reader interface {
	io.Reader
	io.ByteReader
}

// bytewise reads single bytes, too.
type bytewise struct{ io.Reader }

func (b bytewise) ReadByte() (byte, error) {
	var one [1]byte
	_, err := io.ReadFull(b, one[:])
	return one[0], err
}

// readPacket reads one whole packet.
func readPacket(in reader) ([]byte, error) {
	first, err := in.ReadByte()
	if err != nil {
		return nil, err
	}
	raw, rest := []byte{first}, 0
	for shift := 0; shift < 28; shift += 7 {
		b, err := in.ReadByte()
		if err != nil {
			return nil, err
		}
		raw = append(raw, b)
		rest |= int(b&0x7F) << shift
		if b < 0x80 {
			break
		}
	}
	head := len(raw)
	raw = append(raw, make([]byte, rest)...)
	_, err = io.ReadFull(in, raw[head:])
	return raw, err
}

// What the broker could say.

func puback(id uint16, code byte) []byte { return []byte{0x40, 3, byte(id >> 8), byte(id), code} }

func disconnect(code byte) []byte { return []byte{0xE0, 1, code} }

// connack refuses a connection and names another server.
func connack(code byte, reference string) []byte {
	properties := append([]byte{0x1C, byte(len(reference) >> 8), byte(len(reference))}, reference...)
	return append([]byte{0x20, byte(3 + len(properties)), 0, code, byte(len(properties))}, properties...)
}

// withReceiveMaximum changes the number in a CONNECT.
func withReceiveMaximum(raw []byte, n uint16) ([]byte, error) {
	cp, err := packets.ReadPacket(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	cp.Content.(*packets.Connect).Properties.ReceiveMaximum = &n
	var out bytes.Buffer
	_, err = cp.WriteTo(&out)
	return out.Bytes(), err
}
