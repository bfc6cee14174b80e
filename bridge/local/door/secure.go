package door

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// The door ends TLS itself, so that whatever bounds what programs send can read it. The server tells programs that it wants
// TLS, as ever, and then finds that there is none: to it, they may do without. The door sees to it that nobody does.

// Secure makes a server that has not started yet take from the door what came by TLS. It tells programs what its options
// said before.
func Secure(opts *server.Options) {
	opts.AllowNonTLS = opts.TLSConfig != nil
}

// secured is an arrival behind TLS as the server sees it. Before the handshake is the server's greeting.
type secured struct {
	net.Conn // by TLS
	arrival  *Arrival
	agreed   atomic.Bool // the handshake is over
	failed   error       // of it; of the reader
	over     atomic.Bool
}

// farewell is how long TLS may take to say goodbye to who reads nothing any more.
const farewell = 100 * time.Millisecond

// below is the connection below TLS, which gives itself five seconds for its goodbye.
type below struct {
	*net.TCPConn
	over *atomic.Bool // only the goodbye is to come
}

func (b below) SetWriteDeadline(t time.Time) error { return b.TCPConn.SetWriteDeadline(b.limit(t)) }

func (b below) limit(t time.Time) time.Time {
	if end := time.Now().Add(farewell); b.over.Load() && t.After(end) {
		return end
	}
	return t
}

// behindTLS is what the server gets of an arrival.
func (a *Arrival) behindTLS(config *tls.Config) *secured {
	s := &secured{arrival: a}
	s.Conn = tls.Server(below{a.TCPConn, &s.over}, config)
	a.stream = s.receive
	return s
}

// Read implements net.Conn.
func (s *secured) Read(p []byte) (int, error) { return s.arrival.Read(p) }

// receive reads what a program has sent, and shakes hands before that.
func (s *secured) receive(p []byte) (int, error) {
	if s.failed != nil {
		return 0, s.failed
	}
	if !s.agreed.Load() {
		if s.failed = s.Conn.(*tls.Conn).Handshake(); s.failed != nil {
			s.sayFailed()
			return 0, s.failed
		}
		s.agreed.Store(true)
	}
	n, err := s.Conn.Read(p)
	if n > 0 && !s.arrival.spoke && p[0] == tlsHandshake {
		return 0, errTwice
	}
	return n, err
}

// tlsHandshake begins what the server would take for TLS, and what nobody could read along.
const tlsHandshake = 0x16

var errTwice = errors.New("TLS within TLS")

// sayFailed warns, but not of who hangs up, says nothing, or speaks no TLS: these may just look at the port.
func (s *secured) sayFailed() {
	level := slog.LevelWarn
	var timeout net.Error
	var foreign tls.RecordHeaderError
	switch err := s.failed; {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed),
		errors.As(err, &timeout) && timeout.Timeout(), errors.As(err, &foreign) && foreign.Conn != nil:
		level = slog.LevelDebug
	}
	s.arrival.door.cfg.Log.Log(context.Background(), level, "a program's TLS handshake failed", "from", s.arrival.from.String(), "error", s.failed)
}

// Write implements net.Conn.
func (s *secured) Write(p []byte) (int, error) {
	if !s.agreed.Load() {
		return s.arrival.TCPConn.Write(p)
	}
	return s.Conn.Write(p)
}

// Close implements net.Conn. The server calls it with its locks, and TLS says goodbye first.
func (s *secured) Close() error {
	if s.over.Swap(true) {
		return net.ErrClosed
	}
	if !s.agreed.Load() {
		return s.arrival.Close()
	}
	go func() {
		_ = s.Conn.Close()
		_ = s.arrival.Close()
	}()
	return nil
}

// RemoteAddr implements net.Conn.
func (s *secured) RemoteAddr() net.Addr { return s.arrival.from }
