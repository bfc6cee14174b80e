package cloud

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
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

// Dial opens a network connection to a broker as a Session does: mqtt, mqtts, ws or wss; ctx bounds the TLS
// and WebSocket handshakes, too. A nil config trusts the system's certificates.
func Dial(ctx context.Context, u *url.URL, config *tls.Config) (net.Conn, error) {
	port, known := DefaultPort(u.Scheme)
	if !known {
		return nil, fmt.Errorf("mqtt.server %q: scheme %q: use mqtt, mqtts, ws or wss", u.Redacted(), u.Scheme)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = u.Hostname()
	}
	address := net.JoinHostPort(u.Hostname(), port)
	switch u.Scheme {
	case "mqtt":
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	case "mqtts":
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	}
	target := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}
	if target.Path == "" || target.Path == "/" {
		target.Path, target.RawPath = defaultPath, ""
	}
	dialer := websocket.Dialer{TLSClientConfig: config, Subprotocols: []string{"mqtt"}, Proxy: http.ProxyFromEnvironment}
	ws, response, err := dialer.DialContext(ctx, target.String(), nil)
	if err != nil {
		if response != nil {
			return nil, fmt.Errorf("%w: HTTP status %s", err, response.Status)
		}
		return nil, err
	}
	return &wsConn{Conn: ws}, nil
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
				return 0, io.EOF
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

func (c *wsConn) Write(p []byte) (int, error) {
	if err := c.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
