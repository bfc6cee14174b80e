package cloud

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
)

// Dial opens a network connection to a broker as a Session does: mqtt, mqtts, ws or wss. ctx bounds the
// handshakes, too. A nil config trusts the system's certificates.
func Dial(ctx context.Context, u *url.URL, config *tls.Config) (net.Conn, error) {
	return dial(ctx, u, config)
}
