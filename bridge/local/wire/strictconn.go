package wire

import (
	"bytes"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"fleetbridge/internal/flow"
)

// InProcess is the embedded server for nats.go. On its connections header blocks are read as the server reads
// them: to the server a line ends at CR LF, to nats.go at LF alone, and the block goes on behind an empty line. So a
// program could show the server one header and the bridge two. Each *nats.Conn has one of its own.
type InProcess struct {
	*server.Server
	Stirred chan struct{} // told of all that is sent

	current atomic.Pointer[strictConn]
}

// InProcessConn is nats.InProcessConnProvider.
func (s *InProcess) InProcessConn() (net.Conn, error) {
	c, err := s.Server.InProcessConn()
	if err != nil {
		return nil, err
	}
	strict := &strictConn{Conn: c, stirred: s.Stirred}
	s.current.Store(strict)
	return strict, nil
}

var errNotInProcess = errors.New("the connection to NATS is none within the process")

// WriteCommands writes whole commands of NATS's protocol on a connection that was made with InProcess. What nc is asked to
// publish afterwards comes behind them. nats.go costs several times as much for each message. When it fails, the connection
// begins anew, and the server may have some of the commands.
func WriteCommands(nc *nats.Conn, commands []byte) error {
	s, ok := nc.Opts.InProcessServer.(*InProcess)
	if !ok {
		return errNotInProcess
	}
	c := s.current.Load()
	if !nc.IsConnected() { // a new one begins with nats.go's own commands
		return nats.ErrDisconnected
	}
	return c.writeWithin(nc.Opts.FlusherTimeout, commands)
}

// strictConn puts a NUL in the place of what the two would read differently, before nats.go sees it: no admitted
// header has one (see admit), and lengths stay as they are. Of a block that is too large, or has too many lines, the rest
// becomes one header, which admit refuses: nats.go reads the headers of all that comes on a connection one after the other,
// at a price for each line, so programs would wait for whoever sends a hundred thousand of them.
type strictConn struct {
	net.Conn
	stirred chan struct{}
	writing sync.Mutex // nats.go writes whole commands, too

	// Of the goroutine that reads.
	line   []byte // of the protocol, as far as it came
	header int    // bytes of a header block that are to come
	rest   int    // bytes behind it that are to come: payload, CR LF
	cr     bool   // the last byte of the block was a CR
	fresh  bool   // the last two ended a line
	lines  int    // of the block, that have ended
	cut    int    // where the block has too many, counted from its end; 0: nowhere
}

const (
	// Bounds of a block, with the first line and the server's own. The bridge writes a dozen lines, and what goes with
	// a stored shadow may be nearly as large as a stream takes, 64 KiB.
	MaxHeaderLines = 32
	MaxHeaderBytes = 72 << 10
	// KeyTooMany stands for all lines beyond them. It is no key that a program may use.
	KeyTooMany  = "\x01"
	tooManyHead = KeyTooMany + ":"
)

func (c *strictConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.look(p[:n])
	return n, err
}

func (c *strictConn) Write(p []byte) (int, error) {
	c.writing.Lock()
	n, err := c.Conn.Write(p)
	c.writing.Unlock()
	flow.Signal(c.stirred)
	return n, err
}

func (c *strictConn) look(p []byte) {
	for len(p) > 0 {
		switch {
		case c.header > 0:
			n := min(len(p), c.header)
			c.block(p[:n])
			p = p[n:]
		case c.rest > 0:
			n := min(len(p), c.rest)
			c.rest -= n
			p = p[n:]
		default:
			i := bytes.IndexByte(p, '\n')
			if i < 0 {
				c.line = append(c.line, p...)
				return
			}
			c.command(append(c.line, p[:i]...))
			c.line, p = c.line[:0], p[i+1:]
		}
	}
}

// writeWithin closes the connection when it fails: the server may have a part of a command.
func (c *strictConn) writeWithin(d time.Duration, commands []byte) error {
	late := time.AfterFunc(d, func() { _ = c.Close() })
	defer late.Stop()
	_, err := c.Write(commands)
	if err != nil {
		_ = c.Close()
	}
	return err
}

// command reads a line of the server's: HMSG and MSG say what is behind them.
func (c *strictConn) command(line []byte) {
	fields := bytes.Fields(line)
	size := func(fromEnd int) int {
		n, _ := strconv.Atoi(string(fields[len(fields)-fromEnd])) // the server's own numbers
		return n
	}
	switch {
	case len(fields) > 4 && string(fields[0]) == "HMSG":
		c.header, c.cr, c.fresh, c.lines, c.cut = size(2), false, false, 0, 0
		c.rest = size(1) - c.header + len("\r\n")
	case len(fields) > 3 && string(fields[0]) == "MSG":
		c.rest = size(1) + len("\r\n")
	}
}

// block looks at a part of a header block.
func (c *strictConn) block(p []byte) {
	for i, b := range p {
		if c.tooMuch() {
			c.replace(p[i:])
			return
		}
		if b == '\n' && !c.cr || b == '\r' && c.fresh && c.header > len(blockEnd)/2 { // a bare LF; an empty line that is not the last
			p[i], b = 0, 0
		}
		if c.fresh = b == '\n'; c.fresh {
			c.lines++
		}
		c.cr = b == '\r'
		c.header--
	}
}

const blockEnd = "\r\n\r\n"

// tooMuch reports whether what is left of the block is replaced.
func (c *strictConn) tooMuch() bool {
	if c.cut == 0 && c.fresh && c.header > len(tooManyHead+blockEnd) && (c.lines == MaxHeaderLines || c.lines == 1 && c.header > MaxHeaderBytes) {
		c.cut = c.header
	}
	return c.cut > 0
}

// replace writes a part of the header that stands for the rest of a block.
func (c *strictConn) replace(p []byte) {
	clear(p)
	if n := c.cut - c.header; n < len(tooManyHead) {
		copy(p, tooManyHead[n:])
	}
	for i := max(len(p)-len(blockEnd), 0); i < len(p); i++ {
		if left := c.header - i; left <= len(blockEnd) {
			p[i] = blockEnd[len(blockEnd)-left]
		}
	}
	c.header -= len(p)
}
