package fleetsim

import (
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// webSockets is a net.Listener that hands out MQTT connections carried in WebSockets.
type webSockets struct {
	net.Listener
	server   *http.Server
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func listenWebSockets(under net.Listener) *webSockets {
	l := &webSockets{Listener: under, accepted: make(chan net.Conn), closed: make(chan struct{})}
	upgrader := websocket.Upgrader{Subprotocols: []string{"mqtt"}, CheckOrigin: func(*http.Request) bool { return true }}
	l.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // Upgrade has answered
		}
		select {
		case l.accepted <- &webSocketConn{Conn: ws.NetConn(), ws: ws}:
		case <-l.closed:
			_ = ws.Close()
		}
	})}
	go func() { _ = l.server.Serve(under) }()
	return l
}

func (l *webSockets) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *webSockets) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.server.Close()
}

// webSocketConn reads the binary messages of a WebSocket as one stream.
type webSocketConn struct {
	net.Conn
	ws      *websocket.Conn
	message io.Reader
}

func (c *webSocketConn) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			_, r, err := c.ws.NextReader()
			if err != nil {
				return 0, err
			}
			c.message = r
		}
		n, err := c.message.Read(p)
		if err == io.EOF {
			c.message = nil
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (c *webSocketConn) Write(p []byte) (int, error) {
	if err := c.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
