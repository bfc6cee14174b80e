package cloud

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
)

// dialNow dials with the TLS configuration as it is now.
func (s *Session) dialNow(ctx context.Context, d dialing) (net.Conn, error) {
	u := d.server.url
	secure := u.Scheme == "mqtts" || u.Scheme == "wss"
	if s.cfg.TLS != nil && secure {
		var err error
		if d.tls, err = s.cfg.TLS(); err != nil {
			return nil, err
		}
	}
	c, err := s.dial(ctx, d)
	if secure && errors.Is(err, io.EOF) {
		return nil, errors.New("the broker closed the connection in the TLS handshake: is that its TLS port?")
	}
	return c, err
}

// withMend adds to an error of TLS what helps; section is the part of the configuration that is about it.
func withMend(err error, section string) error {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
	)
	mend := ""
	switch {
	case errors.As(err, &authority):
		mend = "set " + section + ".ca_file to the certificate of the authority that signed the server's"
	case errors.As(err, &name) && name.Certificate != nil && len(name.Certificate.DNSNames)+len(name.Certificate.IPAddresses) == 0:
		mend = "make the server's certificate anew with a subjectAltName; a Common Name does not count"
	case errors.As(err, &name):
		mend = "write a name that the certificate has into the URL, or into " + section + ".server_name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		mend = "renew the server's certificate, or set this machine's clock"
	case errors.As(err, &record):
		mend = "the server does not speak TLS there: use its TLS port"
	case strings.HasSuffix(err.Error(), "tls: certificate required"):
		mend = "the server asks for a client certificate: set " + section + ".cert_file and key_file"
	case slices.ContainsFunc(alerts[:], func(r string) bool { return strings.HasSuffix(err.Error(), "tls: "+r) }):
		mend = "the server refuses this client's certificate: look at " + section + ".cert_file, its date and who signed it"
	}
	if mend == "" {
		return err
	}
	return fmt.Errorf("%w; %s", err, mend)
}

// alerts are those with which a server refuses a certificate, as crypto/tls spells them.
var alerts = [...]string{"bad certificate", "unsupported certificate", "revoked certificate", "expired certificate",
	"unknown certificate", "unknown certificate authority"}
