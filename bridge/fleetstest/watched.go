package fleetstest

import (
	"net"
	"sync/atomic"
)

// watchedListener hands out connections that tell when this side closes them: the library has no
// hook for a connection that ends before its CONNACK is out.
type watchedListener struct {
	net.Listener
	closed func()
}

func (l watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watchedConn{Conn: c, tell: l.closed}, nil
}

type watchedConn struct {
	net.Conn
	closed atomic.Bool
	tell   func()
}

func (c *watchedConn) Close() error {
	err := c.Conn.Close()
	if !c.closed.Swap(true) {
		c.tell()
	}
	return err
}
