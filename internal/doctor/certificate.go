package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// soon is how long before its end a certificate is worth a warning.
const soon = 14 * 24 * time.Hour

// handshake checks the chain as the bridge does, and when it ends.
func (d *Doctor) handshake(ctx context.Context, t target) Finding {
	f := Finding{Check: checkTLS, Subject: t.name()}
	switch {
	case !t.secure && t.key == "nats.url":
		f.Status, f.Detail = Skip, "begins after NATS has said hello: see nats"
		return f
	case !t.secure && (t.host == "localhost" || net.ParseIP(t.host).IsLoopback()):
		f.Status, f.Detail = OK, "none ("+t.url.Scheme+"), and none needed on this machine"
		return f
	case !t.secure:
		f.Status, f.Detail = Warn, "none: "+t.url.Scheme+" sends passwords and payloads in the clear"
		f.Mend = "use " + t.url.Scheme + "s in " + t.key
		return f
	case t.proxy != nil:
		f.Status, f.Detail = Skip, "behind a proxy: see connect and api"
		return f
	case !d.reached[t.name()]:
		f.Status, f.Detail = Skip, "needs tcp"
		return f
	}
	config, err := t.tls()
	if err != nil {
		f.Status, f.Detail, f.Mend = Fail, err.Error(), "check the files of "+t.files
		return f
	}
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	config = config.Clone()
	if config.ServerName == "" {
		config.ServerName = t.host
	}
	config.Time = d.options.Now
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", t.name())
	if err != nil {
		f.Status = Fail
		f.Detail, f.Mend = d.untrusted(t, config, err)
		return f
	}
	defer conn.Close()
	state := conn.(*tls.Conn).ConnectionState()
	d.lifetime(&f, t, state)
	if own := config.Certificates; len(own) > 0 && own[0].Leaf != nil && f.Status == OK {
		d.ownLifetime(&f, t, own[0].Leaf)
	}
	return f
}

// lifetime judges the chain that is used by the certificate that ends first.
func (d *Doctor) lifetime(f *Finding, t target, state tls.ConnectionState) {
	chain := state.PeerCertificates
	if len(state.VerifiedChains) > 0 {
		chain = state.VerifiedChains[0]
	}
	first := chain[0]
	for _, c := range chain {
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	left := first.NotAfter.Sub(d.options.Now())
	f.Status = OK
	f.Detail = fmt.Sprintf("%s, %s, chain of %d, valid until %s (%s)", tls.VersionName(state.Version), named(chain[0]), len(chain),
		first.NotAfter.UTC().Format(time.DateOnly), days(left))
	if left < soon {
		f.Status, f.Mend = Warn, "have the certificate of "+named(first)+" renewed"
	}
}

// ownLifetime judges the client certificate.
func (d *Doctor) ownLifetime(f *Finding, t target, own *x509.Certificate) {
	switch left := own.NotAfter.Sub(d.options.Now()); {
	case left <= 0:
		f.Status, f.Detail = Fail, f.Detail+"; the client certificate ended on "+own.NotAfter.UTC().Format(time.DateOnly)
		f.Mend = "renew " + t.files + ".cert_file"
	case left < soon:
		f.Status, f.Detail = Warn, f.Detail+"; the client certificate ends in "+days(left)
		f.Mend = "renew " + t.files + ".cert_file"
	}
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Hour).String()
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func named(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return fmt.Sprintf("%q", c.Subject.CommonName)
	}
	if len(c.DNSNames) > 0 {
		return fmt.Sprintf("%q", c.DNSNames[0])
	}
	return fmt.Sprintf("%q", c.Subject.String())
}

// untrusted says what is wrong with a server that could not be trusted, and the mend.
func (d *Doctor) untrusted(t target, config *tls.Config, err error) (detail, mend string) {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var failed *tls.CertificateVerificationError
	var shown *x509.Certificate
	if errors.As(err, &failed) && len(failed.UnverifiedCertificates) > 0 {
		shown = failed.UnverifiedCertificates[0]
	}
	switch {
	case errors.As(err, &record), strings.Contains(err.Error(), "first record does not look like a TLS handshake"):
		return "the server does not speak TLS there", "use the port that does, or another scheme in " + t.key
	case errors.As(err, &host) && shown != nil:
		names := append([]string{}, shown.DNSNames...)
		for _, ip := range shown.IPAddresses {
			names = append(names, ip.String())
		}
		if len(names) == 0 {
			return fmt.Sprintf("the certificate of %s has no subjectAltName", named(shown)),
				"make it anew with a subjectAltName for " + config.ServerName + "; a Common Name does not count"
		}
		return fmt.Sprintf("the certificate is for %s, not for %s", strings.Join(names, ", "), config.ServerName),
			"connect by one of these names in " + t.key + ", or set " + t.files + ".server_name to it"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		c := invalid.Cert
		if d.options.Now().Before(c.NotBefore) {
			return fmt.Sprintf("the certificate of %s is valid from %s on, which is not yet", named(c), c.NotBefore.UTC().Format(time.RFC3339)),
				"check this machine's clock: it says " + d.options.Now().UTC().Format(time.RFC3339)
		}
		return fmt.Sprintf("the certificate of %s ended on %s", named(c), c.NotAfter.UTC().Format(time.RFC3339)),
			"have it renewed; check this machine's clock, too: it says " + d.options.Now().UTC().Format(time.RFC3339)
	case errors.As(err, &authority):
		from := "an unknown authority"
		if shown != nil {
			from = fmt.Sprintf("%q", shown.Issuer.String())
		}
		return "the certificate is signed by " + from + ", which is not trusted", "set " + t.files + ".ca_file to the PEM certificate of that authority"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "the server hung up during the TLS handshake", "check whether the port speaks TLS, and " + t.files
	case errors.Is(err, context.DeadlineExceeded):
		return "no TLS handshake in time", "check whether the port speaks TLS"
	}
	return cause(err), "check " + t.files
}
