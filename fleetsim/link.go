package fleetsim

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Link is a TCP proxy in front of a broker (or of anything) that can be broken. It understands
// plain MQTT well enough to break it at a packet; with TLS or WebSockets the other faults still work.
type Link struct {
	target   string
	listener net.Listener
	done     chan struct{}
	all      sync.WaitGroup

	monitor
	cut      bool
	black    bool
	shapes   [2]Shape
	held     bool // the listener holds little for new connections
	torn     [2]bool
	traps    []*trap
	lines    map[*line]struct{}
	accepted int

	carried [2]atomic.Int64
}

// line is one connection through the link.
type line struct {
	client, broker net.Conn // broker is nil while the link is a black hole from the start
	blind          bool     // made in a black hole
	number         int      // of the link's connections, from 1
}

func (c *line) reset() {
	for _, conn := range []net.Conn{c.client, c.broker} {
		if conn == nil {
			continue
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}

// NewLink starts a proxy to the target, host:port or a URL with both, on a free port of 127.0.0.1.
func NewLink(target string) (*Link, error) { return ListenLink("", target) }

// ListenLink does so on this host:port.
func ListenLink(listen, target string) (*Link, error) {
	if strings.Contains(target, "://") {
		u, err := url.Parse(target)
		if err != nil {
			return nil, fmt.Errorf("link: %w", err)
		}
		target = u.Host
	}
	l, err := net.Listen("tcp", cmp.Or(listen, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	link := &Link{target: target, listener: l, done: make(chan struct{}), lines: map[*line]struct{}{}}
	link.all.Go(link.accept)
	return link, nil
}

// Addr is the proxy's host:port.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// URL is mqtt://host:port.
func (l *Link) URL() string { return "mqtt://" + l.Addr() }

// Close ends the proxy and every connection.
func (l *Link) Close() error {
	l.Lock()
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	l.Unlock()
	err := l.listener.Close()
	l.Cut()
	l.all.Wait()
	return err
}

// Cut resets every connection, and every new one, until Restore.
func (l *Link) Cut() {
	l.Lock()
	defer l.Unlock()
	l.cut = true
	l.resetAll()
}

// Drop resets every connection; new ones are welcome.
func (l *Link) Drop() {
	l.Lock()
	defer l.Unlock()
	l.resetAll()
}

func (l *Link) resetAll() {
	for c := range l.lines {
		c.reset()
	}
	clear(l.lines)
	l.notify()
}

// Restore ends Cut.
func (l *Link) Restore() {
	l.Lock()
	defer l.Unlock()
	l.cut = false
	l.notify()
}

// BlackHole makes the link half open: connections are accepted and stay up, but nothing passes.
// When it ends, what older connections sent meanwhile goes through; those made in it are reset.
func (l *Link) BlackHole(on bool) {
	l.Lock()
	defer l.Unlock()
	l.black = on
	if !on {
		for c := range l.lines {
			if c.blind {
				c.reset()
				delete(l.lines, c)
			}
		}
	}
	l.notify()
}

// ResetMidPacket passes only the first half of what there is of the flow's next packet, then resets
// the connection. New connections are welcome.
func (l *Link) ResetMidPacket(flow Flow) {
	l.Lock()
	defer l.Unlock()
	l.torn[flow] = true
}

// Accepted counts the connections that were let through, or into a black hole.
func (l *Link) Accepted() int {
	l.Lock()
	defer l.Unlock()
	return l.accepted
}

func (l *Link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.all.Go(func() { l.serve(client) })
	}
}

func (l *Link) serve(client net.Conn) {
	c := &line{client: client}
	l.Lock()
	closed := false
	select {
	case <-l.done:
		closed = true
	default:
	}
	if l.cut || closed {
		l.Unlock()
		c.reset()
		return
	}
	l.accepted++
	c.number, c.blind = l.accepted, l.black
	l.lines[c] = struct{}{}
	l.Unlock()
	if c.blind {
		return // reset by BlackHole, Cut, Drop or Close
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	if rate := l.shape(FromBroker).Rate; rate > 0 {
		dialer.Control = func(_, _ string, c syscall.RawConn) error { receiveBuffer(c, bufferFor(rate)); return nil }
	}
	broker, err := dialer.Dial("tcp", l.target)
	l.Lock()
	_, wanted := l.lines[c]
	if err != nil || !wanted {
		delete(l.lines, c)
		l.Unlock()
		c.reset()
		if broker != nil {
			_ = broker.Close()
		}
		return
	}
	c.broker = broker
	l.Unlock()

	var both sync.WaitGroup
	both.Go(func() { l.pipe(c, FromClient) })
	both.Go(func() { l.pipe(c, FromBroker) })
	both.Wait()
	l.Lock()
	delete(l.lines, c)
	l.Unlock()
	_ = client.Close()
	_ = broker.Close()
}
