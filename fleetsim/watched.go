package fleetsim

import (
	"net"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// watchedListener hands out connections that tell when this side closes them: the library has no
// hook for a connection that ends before its CONNACK is out. They also do the flow control.
type watchedListener struct {
	net.Listener
	closed func()
	like   *Traits
}

func (l watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &watchedConn{Conn: conn, tell: l.closed}
	c.window.to, c.window.like = conn, l.like
	return c, nil
}

type watchedConn struct {
	net.Conn
	window window
	closed atomic.Bool
	tell   func()
}

// Write takes nothing once the connection is closed: what is sent then only waits in the session.
func (c *watchedConn) Write(packet []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	return c.window.write(packet)
}

func (c *watchedConn) Close() error {
	err := c.Conn.Close()
	if !c.closed.Swap(true) {
		c.tell()
	}
	return err
}

// servedListener ends its clients by itself. The library's way to find them takes the read lock of the
// list of clients twice over, and stops for ever when one comes or goes between the two.
type servedListener struct {
	*listeners.Net
	server *mqtt.Server
}

func (l servedListener) Close(listeners.CloseFn) {
	l.Net.Close(func(id string) {
		for _, cl := range l.server.Clients.GetAll() {
			if cl.Net.Listener == id && !cl.Closed() {
				_ = l.server.DisconnectClient(cl, packets.ErrServerShuttingDown)
			}
		}
	})
}
