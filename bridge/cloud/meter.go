package cloud

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// slowest is the least that counts as moving, in bytes a second over the length of a timeout. The slowest modem is
	// faster. A peer that sends single bytes to keep us waiting is slower.
	slowest = 16
	// writeStep is how often a write that blocks is counted.
	writeStep = time.Second
	// handshakes is how many times the patience all steps up to CONNACK may take together, even if bytes move: these packets
	// are small.
	handshakes = 10
	// longestHandshake is how many bytes may come before TLS and WebSocket are agreed on: certificates, and the answer of a
	// web server, which the library reads to its end.
	longestHandshake = 1 << 20
)

var errLongHandshake = errors.New("more than 1 MiB came, and the TLS or WebSocket handshake is not over: that is no broker")

// meter is the network connection, below TLS and WebSocket. It counts the bytes that came and those that the other
// side has taken, also in the middle of a packet and while a write blocks. Writes have no deadline but the one that
// is set: whoever looks at the meter closes a connection on which nothing moves.
type meter struct {
	mu   sync.Mutex
	conn net.Conn // nil before the network connects
	over bool     // closed before it connected
	out  int64    // bytes taken by the other side, as far as was seen

	written, read atomic.Int64 // bytes
	until         atomic.Int64 // the write deadline, in ns since 1970; 0: none
	most          atomic.Int64 // bytes that may come; 0: any
}

// metered is a connection whose bytes a meter counts.
type metered struct {
	net.Conn
	m *meter
}

// wrap begins to count c.
func (m *meter) wrap(c net.Conn) net.Conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conn = c
	if m.over {
		_ = c.Close()
	}
	return &metered{c, m}
}

// close closes the network connection at once, without a word of TLS or WebSocket.
func (m *meter) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = true
	if m.conn != nil {
		_ = m.conn.Close()
	}
}

// connected reports whether there has been a network connection.
func (m *meter) connected() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conn != nil
}

// moved returns how many bytes the other side has taken, where the system says so, else this side's system; and how
// many have come.
func (m *meter) moved() (out, in int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		written := m.written.Load() // before the question: what is written meanwhile only makes it less
		m.out = max(m.out, written-int64(unsent(m.conn)))
	}
	return m.out, m.read.Load()
}

// guard calls late when nothing has moved for the length of patience, or when it all takes too long. It returns at
// the end of ctx.
func (m *meter) guard(ctx context.Context, patience time.Duration, late func(error)) {
	start := time.Now()
	last, seen := start, int64(0)
	tick := time.NewTicker(min(max(patience/16, time.Millisecond), time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		out, in := m.moved()
		if out+in > seen {
			last, seen = now, out+in
		}
		switch {
		case now.Sub(last) >= patience:
			late(silence(patience))
			return
		case now.Sub(start) >= handshakes*patience:
			late(fmt.Errorf("a handshake that takes longer than %v", handshakes*patience))
			return
		}
	}
}

// silence is that nothing came for so long.
type silence time.Duration

func (s silence) Error() string { return fmt.Sprintf("no answer within %v", time.Duration(s)) }

// Read counts.
func (c *metered) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	all, most := c.m.read.Add(int64(n)), c.m.most.Load()
	if most > 0 && all > most {
		return 0, errLongHandshake
	}
	return n, err
}

// Write counts what this side's system has taken at least every writeStep.
func (c *metered) Write(p []byte) (n int, err error) {
	for {
		step, last := time.Now().Add(writeStep), false
		if end := c.m.until.Load(); end != 0 && end <= step.UnixNano() {
			step, last = time.Unix(0, end), true
		}
		_ = c.Conn.SetWriteDeadline(step)
		k, err := c.Conn.Write(p[n:])
		n += k
		c.m.written.Add(int64(k))
		if n == len(p) || err != nil && (last || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return n, err
		}
	}
}

// SetWriteDeadline is what TLS uses for its last words.
func (c *metered) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		c.m.until.Store(0)
	} else {
		c.m.until.Store(t.UnixNano())
	}
	return nil
}

func (c *metered) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// progress is a clock of something that is waited for. It begins anew whenever enough has moved.
type progress struct {
	since time.Time
	bytes int64 // that had moved then
}

// restart begins anew.
func (p *progress) restart(now time.Time, moved int64) { *p = progress{now, moved} }

// idle is how long hardly anything has moved. within is the time after which that is too long.
func (p *progress) idle(now time.Time, moved int64, within time.Duration) time.Duration {
	if moved-p.bytes >= max(1, int64(slowest*within.Seconds())) {
		p.restart(now, moved)
	}
	return now.Sub(p.since)
}
