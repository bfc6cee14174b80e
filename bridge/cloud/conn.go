package cloud

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// lastWords is how long the reader goes on after a write failed: a broker that hangs up says why first.
const lastWords = 500 * time.Millisecond

// conn is one network connection. Reads are buffered and checked packet by packet before anything is
// allocated for them. Writers hold its lock, which paho takes around each packet; what was written is
// flushed when the lock is given back. The first failure is kept as the cause and closes the connection;
// after a failed write the reader may still find the broker's DISCONNECT, which is a better cause.
type conn struct {
	net.Conn
	in    reader
	frame frame
	// message handles a PUBLISH. Its first byte and the length of its body are already read; message reads the body to the
	// end. While it is nil, PUBLISH packets are read like others.
	message func(first byte, b *body) error

	wire       *meter // below Conn; whoever looks at it ends a write that does not move
	mu         sync.Mutex
	out        []byte
	start      time.Time
	read, sent atomic.Int64 // when bytes last came and went, nanoseconds since start

	failed    func() // called at each failure
	causeMu   sync.Mutex
	cause     error
	unwritten error // the first write that failed
}

func newConn(c net.Conn, wire *meter, maxPacket int, failed func()) *conn {
	return &conn{Conn: c, in: reader{from: c}, frame: frame{max: maxPacket}, wire: wire, start: time.Now(), failed: failed}
}

// fail closes the connection. The first error given is why it was lost.
func (c *conn) fail(err error) {
	c.causeMu.Lock()
	if c.cause == nil {
		c.cause = err
	}
	c.causeMu.Unlock()
	c.wire.close()
	c.failed()
}

// writeFailed notes that a write failed. Nothing more is written; the connection is closed when the reader
// has read what the broker had sent, or after lastWords.
func (c *conn) writeFailed(err error) {
	c.causeMu.Lock()
	first := c.unwritten == nil
	if first {
		c.unwritten = err
	}
	c.causeMu.Unlock()
	if first {
		_ = c.Conn.SetReadDeadline(time.Now().Add(lastWords))
		time.AfterFunc(lastWords, func() { c.fail(err) }) // the reader may be waiting for room
	}
}

// writeError returns the error of the first write that failed.
func (c *conn) writeError() error {
	c.causeMu.Lock()
	defer c.causeMu.Unlock()
	return c.unwritten
}

// lost returns the first failure.
func (c *conn) lost() error {
	c.causeMu.Lock()
	defer c.causeMu.Unlock()
	return c.cause
}

// Read hands out buffered bytes, but for messages, and fails on what is no packet, or one larger than was announced.
func (c *conn) Read(p []byte) (int, error) {
	err := c.messages()
	n := 0
	if err == nil {
		n, err = c.bytes(p)
	}
	if err == nil {
		err = c.frame.check(p[:n])
	}
	if err != nil {
		c.fail(cmp.Or(c.writeError(), reading(plain(err))))
		return 0, err
	}
	return n, nil
}

// fill waits until there is something to read.
func (c *conn) fill() error {
	if c.in.buffered() > 0 {
		return nil
	}
	err := c.in.fill()
	if err == nil {
		c.read.Store(int64(time.Since(c.start)))
	}
	return err
}

// bytes reads what comes next, whatever it is.
func (c *conn) bytes(p []byte) (int, error) {
	if err := c.fill(); err != nil {
		return 0, err
	}
	return c.in.Read(p)
}

// messages handles every PUBLISH that comes before the next other packet.
func (c *conn) messages() error {
	for c.message != nil && c.frame.between() {
		if err := c.fill(); err != nil {
			return err
		}
		first := c.in.next()
		if first>>4 != publishAtMostOnce>>4 {
			return nil
		}
		var one [1]byte
		for begun := false; !begun || !c.frame.ready(); begun = true {
			if _, err := c.bytes(one[:]); err != nil {
				return err
			}
			if err := c.frame.check(one[:]); err != nil {
				return err
			}
		}
		if err := c.message(first, &body{from: bodyReader{c}, left: c.frame.body}); err != nil {
			return err
		}
		c.frame.body = 0
	}
	return nil
}

// bodyReader reads without frame.check, which knows the body's length already.
type bodyReader struct{ c *conn }

func (b bodyReader) Read(p []byte) (int, error) { return b.c.bytes(p) }

// reading says that an error came from reading, unless it says so itself.
func reading(err error) error {
	if strings.HasPrefix(err.Error(), "read: ") || strings.HasPrefix(err.Error(), "read ") {
		return err
	}
	return fmt.Errorf("read: %w", err)
}

// Lock begins a packet.
func (c *conn) Lock() { c.mu.Lock() }

// Write keeps a piece of a packet until Unlock; the caller holds the lock.
func (c *conn) Write(p []byte) (int, error) {
	if err := cmp.Or(c.lost(), c.writeError()); err != nil {
		return 0, err
	}
	c.out = append(c.out, p...)
	return len(p), nil
}

// Unlock ends a packet and sends it. A failure closes the connection, which the reader notices.
func (c *conn) Unlock() {
	_ = c.flush(c.out)
	c.out = c.out[:0]
	c.mu.Unlock()
}

// send writes whole packets at once.
func (c *conn) send(packets []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flush(packets)
}

func (c *conn) flush(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := c.writeError(); err != nil {
		return err
	}
	if _, err := c.Conn.Write(b); err != nil {
		err = fmt.Errorf("write: %w", plain(err))
		c.writeFailed(err)
		return err
	}
	c.sent.Store(int64(time.Since(c.start)))
	return nil
}

func (c *conn) lastRead() time.Time { return c.start.Add(time.Duration(c.read.Load())) }
func (c *conn) lastSent() time.Time { return c.start.Add(time.Duration(c.sent.Load())) }

// errHungUp is the end of a connection without a reason.
var errHungUp = errors.New("the broker closed the connection")

// plain takes the addresses out of a network error, so that the same failure reads the same each time.
func plain(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errHungUp
	case errors.As(err, &op) && op.Op != "dial":
		return op.Err
	}
	return err
}

// frame follows the packets in a stream of bytes: a first byte, a length of one to four bytes, a body.
type frame struct {
	max  int // bytes of the largest body
	body int // bytes of the body still to come
	size int // digits of the length seen; 0: before the first byte
	len  int
}

// between reports whether a packet begins next.
func (f *frame) between() bool { return f.body == 0 && f.size == 0 }

// ready reports whether the length of the packet has come.
func (f *frame) ready() bool { return f.size == 0 }

func (f *frame) check(b []byte) error {
	for len(b) > 0 {
		if f.body > 0 {
			n := min(f.body, len(b))
			f.body -= n
			b = b[n:]
			continue
		}
		c := b[0]
		b = b[1:]
		if f.size == 0 {
			if c&authByte == authByte {
				return errors.New("the broker asks for enhanced authentication, which is not supported")
			}
			f.size, f.len = 1, 0
			continue
		}
		if f.size > 4 {
			return errors.New("malformed packet: its length has more than four bytes")
		}
		f.len |= int(c&0x7F) << (7 * (f.size - 1))
		f.size++
		if c&0x80 != 0 {
			continue
		}
		if f.len > f.max {
			return fmt.Errorf("packet of %d bytes, at most %d were announced", f.len, f.max)
		}
		f.body, f.size = f.len, 0
	}
	return nil
}
