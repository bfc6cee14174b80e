package cloud

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

// defaultPorts are also the list of schemes.
var defaultPorts = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}

// DefaultPort is the port of a broker whose URL names none; known is false for a scheme that Dial refuses.
func DefaultPort(scheme string) (port string, known bool) {
	port, known = defaultPorts[scheme]
	return port, known
}

// defaultPath is where EMQX and most others serve MQTT over WebSocket.
const defaultPath = "/mqtt"

// dialing is all that it takes to open a connection to a broker.
type dialing struct {
	server server
	tls    *tls.Config   // nil: the system's authorities
	wire   *meter        // counts what moves; nil: nobody looks
	brief  time.Duration // for a TCP connection alone, when others can be tried; 0: until ctx ends
	small  bool          // the link may lose large TCP segments
	try    *attempt      // what it is part of; nil: of none
}

// Dial opens a network connection to a broker as a Session does: mqtt, mqtts, ws or wss; ctx bounds the TLS
// and WebSocket handshakes, too. A nil config trusts the system's certificates.
func Dial(ctx context.Context, u *url.URL, config *tls.Config) (net.Conn, error) {
	return dial(ctx, dialing{server: server{url: u}, tls: config})
}

func dial(ctx context.Context, d dialing) (net.Conn, error) {
	u := d.server.url
	address, err := hostPort(u)
	if err != nil {
		return nil, err
	}
	if d.wire == nil {
		d.wire = &meter{}
	}
	defer context.AfterFunc(ctx, d.wire.close)()
	d.wire.most.Store(longestHandshake)
	defer d.wire.most.Store(0)
	switch u.Scheme {
	case "mqtt":
		return d.connect(ctx, "tcp", address)
	case "mqtts":
		raw, err := d.connect(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		c := tls.Client(raw, d.config())
		if err := c.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		return c, nil
	}
	dialer := websocket.Dialer{
		TLSClientConfig: d.config(), Subprotocols: []string{"mqtt"}, Proxy: http.ProxyFromEnvironment, NetDialContext: d.connect,
	}
	ws, response, err := dialer.DialContext(ctx, webSocketURL(u).String(), nil)
	if err != nil {
		if response != nil {
			return nil, refusedUpgrade(err, response, u.RawQuery)
		}
		return nil, quoting{err}
	}
	// The library gives a pong a second to leave, and the connection up after it; a slow link takes longer.
	ws.SetPingHandler(func(data string) error {
		err := ws.WriteControl(websocket.PongMessage, []byte(data), time.Time{})
		if errors.Is(err, websocket.ErrCloseSent) {
			return nil
		}
		return err
	})
	return &wsConn{Conn: ws}, nil
}

// hostPort is where a URL of a broker leads.
func hostPort(u *url.URL) (string, error) {
	port, known := DefaultPort(u.Scheme)
	if !known {
		return "", fmt.Errorf("mqtt.server %q: scheme %q: use mqtt, mqtts, ws or wss", Shown(u), u.Scheme)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// webSocketURL is a URL without what a broker does not need to see, and with a path.
func webSocketURL(u *url.URL) *url.URL {
	target := &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}
	if target.Path == "" {
		target.Path, target.RawPath = defaultPath, ""
	}
	return target
}

// refusedUpgrade says what a web server answered instead of opening a WebSocket.
func refusedUpgrade(err error, response *http.Response, query string) error {
	response.Status = redact(response.Status, []string{query})
	if to, _, _ := strings.Cut(response.Header.Get("Location"), "?"); to != "" {
		return fmt.Errorf("%w: HTTP status %s, which leads to %q: write that into mqtt.server if it is the broker", err, shorten(response.Status), shorten(to))
	}
	return fmt.Errorf("%w: HTTP status %s", err, shorten(response.Status))
}

// quoting is an error whose text has words of the server's, of any length.
type quoting struct{ error }

func (e quoting) Error() string { return shorten(e.error.Error()) }
func (e quoting) Unwrap() error { return e.error }

// config is the TLS configuration for the name in the URL, whatever the address.
func (d dialing) config() *tls.Config {
	config := d.tls
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = d.server.url.Hostname()
	}
	return config
}

// connect opens the TCP connection, to the address of the name that is meant, or another one that answers sooner. Another
// name is a proxy's.
func (d dialing) connect(ctx context.Context, network, address string) (net.Conn, error) {
	own, err := hostPort(d.server.url)
	if err != nil || own != address || !d.server.addr.IsValid() || d.try == nil {
		return d.connectTo(ctx, network, address)
	}
	_, port, _ := net.SplitHostPort(address)
	addrs := append([]netip.Addr{d.server.addr}, d.try.others...)
	c, won, lost := race(ctx, addrs, func(ctx context.Context, addr netip.Addr) (net.Conn, error) {
		return d.open(ctx, network, net.JoinHostPort(addr.String(), port))
	})
	d.try.missed = lost
	if c == nil {
		return nil, lost[0].err
	}
	d.try.server.addr = won
	return d.wire.wrap(c), nil
}

// connectTo opens the TCP connection to one address.
func (d dialing) connectTo(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := d.open(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return d.wire.wrap(c), nil
}

func (d dialing) open(ctx context.Context, network, address string) (net.Conn, error) {
	// MQTT has a keep-alive of its own: TCP's would cost as much again on a link that is paid for by the byte.
	dialer := net.Dialer{KeepAlive: -1, Timeout: d.brief}
	if d.small {
		dialer.Control = func(_, _ string, c syscall.RawConn) error { smallSegments(c); return nil }
	}
	return dialer.DialContext(ctx, network, address)
}

// wsConn reads the binary messages of a WebSocket as one stream and writes a message a call.
type wsConn struct {
	*websocket.Conn
	message io.Reader
}

func (c *wsConn) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			kind, r, err := c.NextReader()
			if closed := (*websocket.CloseError)(nil); errors.As(err, &closed) {
				return 0, hungUp(closed)
			}
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errors.New("a WebSocket message that is not binary")
			}
			c.message = r
		}
		n, err := c.message.Read(p)
		if err == io.EOF {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// hungUp is the end of a WebSocket: that of a stream, unless the broker gave a reason.
func hungUp(closed *websocket.CloseError) error {
	switch closed.Code {
	case websocket.CloseNormalClosure, websocket.CloseNoStatusReceived, websocket.CloseAbnormalClosure:
		if closed.Text == "" || closed.Code == websocket.CloseAbnormalClosure {
			return io.EOF
		}
	}
	if closed.Text == "" {
		return fmt.Errorf("the broker closed the WebSocket with code %d", closed.Code)
	}
	return fmt.Errorf("the broker closed the WebSocket with code %d (%q)", closed.Code, shorten(closed.Text))
}

func (c *wsConn) Write(p []byte) (int, error) {
	if err := c.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
