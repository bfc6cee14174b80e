package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"net"
	"sync"
)

// buffer is what a connection reads at once, and about what it gathers before a writer must wait.
const buffer = 256 << 10

// Peer is one end of a connection. Publishes and acknowledgements are gathered while a write is under
// way, so a system call carries many of them when there are many, and one at once when there is one.
type Peer struct {
	// ClientID is the client's on both ends.
	ClientID string

	conn      net.Conn
	in        *bufio.Reader
	scratch   []byte
	onPublish func(p *Peer, topic, payload []byte)

	mu      sync.Mutex
	changed sync.Cond
	out     []byte
	spare   []byte
	flight  int // published and not acknowledged
	window  int
	lastID  uint16
	refused int // PUBACKs of 0x80 and more
	err     error
	wait    []chan<- []byte // for SUBACKs, in order
	written chan struct{}
}

// ErrClosed is returned after Close.
var ErrClosed = errors.New("connection closed")

func newPeer(conn net.Conn, onPublish func(p *Peer, topic, payload []byte)) *Peer {
	p := &Peer{conn: conn, in: bufio.NewReaderSize(conn, buffer), onPublish: onPublish, window: 1<<16 - 2, written: make(chan struct{})}
	p.changed.L = &p.mu
	return p
}

// Publish sends a message with QoS 1. It waits while as many are unacknowledged as the other end takes,
// and returns an error only when the connection is lost. The payload is copied.
func (p *Peer) Publish(topic string, payload []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.err == nil && (p.flight >= p.window || len(p.out) > buffer) {
		p.changed.Wait()
	}
	if p.err != nil {
		return p.err
	}
	if p.lastID++; p.lastID == 0 {
		p.lastID = 1
	}
	p.flight++
	p.out = appendPublish(p.out, topic, p.lastID, payload)
	p.changed.Broadcast()
	return nil
}

// Refused is how many messages the other end has refused.
func (p *Peer) Refused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

// Close ends the connection at once; what is on its way may be lost.
func (p *Peer) Close() { p.fail(ErrClosed) }

func (p *Peer) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
		_ = p.conn.Close()
		p.changed.Broadcast()
		for _, w := range p.wait {
			close(w)
		}
		p.wait = nil
	}
}

// Err is why the connection was lost, nil while it stands.
func (p *Peer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// queue sends whole packets without waiting.
func (p *Peer) queue(packets []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = append(p.out, packets...)
	p.changed.Broadcast()
}

// write sends what was gathered, until the connection is lost.
func (p *Peer) write() {
	defer close(p.written)
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for p.err == nil && len(p.out) == 0 {
			p.changed.Wait()
		}
		if p.err != nil {
			return
		}
		b := p.out
		p.out = p.spare[:0]
		p.mu.Unlock()
		_, err := p.conn.Write(b)
		if err != nil {
			p.fail(err)
		}
		p.mu.Lock()
		p.spare = b
		p.changed.Broadcast()
	}
}

// read handles packets until the connection is lost; other takes those that are not about publishing.
// Acknowledgements go out when what was read at once is used up.
func (p *Peer) read(other func(first byte, body []byte) error) {
	var acks []byte
	acked, refused := 0, 0
	for {
		first, body, grown, err := next(p.in, p.scratch)
		p.scratch = grown
		if err != nil {
			p.fail(err)
			return
		}
		switch first & 0xF0 {
		case publish:
			r := reader{b: body}
			topic := r.string()
			if first&0x06 != 0 {
				acks = binary.BigEndian.AppendUint16(append(acks, puback, 2), r.uint16())
			}
			r.properties()
			if r.failed {
				p.fail(errMalformed)
				return
			}
			p.onPublish(p, topic, r.b)
		case puback:
			acked++
			if len(body) > 2 && body[2] >= 0x80 {
				refused++
			}
		default:
			if err := other(first, body); err != nil {
				p.fail(err)
				return
			}
		}
		if acked+len(acks) > 0 && (p.in.Buffered() == 0 || len(acks) > 16<<10 || acked > 1<<10) {
			p.mu.Lock()
			p.flight -= acked
			p.refused += refused
			p.out = append(p.out, acks...)
			p.changed.Broadcast()
			p.mu.Unlock()
			acks, acked, refused = acks[:0], 0, 0
		}
	}
}
