package wire

import (
	"net"
	"slices"
	"sync"
)

// Broker takes every client, acknowledges everything it publishes, and hands it to OnPublish. It
// routes nothing: what a client shall get is published on its Peer.
type Broker struct {
	onPublish func(p *Peer, topic, payload []byte)

	listener net.Listener
	work     sync.WaitGroup
	mu       sync.Mutex
	closed   bool
	sessions map[string]*Peer // by client id
	peers    map[string]*Peer // of them those that have subscribed
	all      map[*Peer]bool
	changed  chan struct{} // closed at the next change of peers
}

// Listen starts a broker on a free port of 127.0.0.1. onPublish takes what arrives, one after the other
// on each connection; topic and payload are valid during the call.
func Listen(onPublish func(p *Peer, topic, payload []byte)) (*Broker, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Broker{onPublish: onPublish, listener: l, sessions: map[string]*Peer{}, peers: map[string]*Peer{}, all: map[*Peer]bool{}, changed: make(chan struct{})}
	b.work.Go(b.accept)
	return b, nil
}

// URL is mqtt://127.0.0.1:port.
func (b *Broker) URL() string { return "mqtt://" + b.listener.Addr().String() }

// Peer is the newest connection with that client id that has subscribed to something, or nil; changed is
// closed when that may be different.
func (b *Broker) Peer(clientID string) (p *Peer, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.peers[clientID], b.changed
}

// Close ends every connection.
func (b *Broker) Close() {
	_ = b.listener.Close()
	b.mu.Lock()
	b.closed = true
	for p := range b.all {
		p.Close()
	}
	b.mu.Unlock()
	b.work.Wait()
}

func (b *Broker) accept() {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return
		}
		p := newPeer(conn, b.onPublish)
		b.mu.Lock()
		if b.closed {
			p.Close()
		}
		b.all[p] = true
		b.mu.Unlock()
		b.work.Go(p.write)
		b.work.Go(func() {
			p.read(func(first byte, body []byte) error { return b.serve(p, first, body) })
			b.mu.Lock()
			delete(b.all, p)
			b.mu.Unlock()
		})
	}
}

func (b *Broker) serve(p *Peer, first byte, body []byte) error {
	switch first {
	case connect:
		return b.greet(p, body)
	case subscribe:
		p.queue(answer(suback, body, func(r *reader) { r.string(); r.byte() }, 1))
		b.mu.Lock()
		b.peers[p.ClientID] = p
		close(b.changed)
		b.changed = make(chan struct{})
		b.mu.Unlock()
	case unsubscribe:
		p.queue(answer(unsuback, body, func(r *reader) { r.string() }, 0))
	case pingreq:
		p.queue([]byte{pingresp, 0})
	case disconnect:
		return ErrClosed
	default:
		return errMalformed
	}
	return nil
}

// greet answers a CONNECT. There are no sessions.
func (b *Broker) greet(p *Peer, body []byte) error {
	r := reader{b: body}
	r.string()
	r.take(4) // version, flags, keep-alive
	properties := r.properties()
	id := r.string()
	if r.failed {
		return errMalformed
	}
	p.mu.Lock()
	p.ClientID = string(slices.Clone(id))
	if most, ok := property(properties, receiveMaximum); ok && most > 0 {
		p.window = min(p.window, int(most))
	}
	p.mu.Unlock()
	b.mu.Lock()
	was := b.sessions[p.ClientID]
	b.sessions[p.ClientID] = p
	b.mu.Unlock()
	if was != nil && was != p { // a client id has one connection
		was.Close()
	}
	p.queue([]byte{connack, 3, 0, 0, 0})
	return nil
}

// answer grants every filter of a SUBSCRIBE or UNSUBSCRIBE.
func answer(first byte, body []byte, skip func(*reader), code byte) []byte {
	r := reader{b: body}
	id := r.take(2)
	r.properties()
	b := append(append([]byte(nil), id...), 0)
	for len(r.b) > 0 {
		skip(&r)
		b = append(b, code)
	}
	return appendPacket(nil, first, b)
}
