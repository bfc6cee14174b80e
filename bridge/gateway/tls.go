package gateway

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"fleetbridge/internal/plainfile"
)

// Client makes the TLS configuration of a connection that this gateway opens; nil, the system's
// authorities and nothing else, when nothing is configured. It reads the files now; what serves
// connection after connection uses a tlsFiles.
func (t TLS) Client() (*tls.Config, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	return (&tlsFiles{names: t, build: clientConfig}).config()
}

// tlsFiles makes a TLS configuration of the files of one section, anew whenever one of them holds
// something else. It is asked at every handshake, so a renewed certificate is used from the next
// connection on. A renewal that can't be used, such as one that is half written, leaves the last good one
// in force.
type tlsFiles struct {
	names TLS
	build func(TLS, tlsContents) (*tls.Config, error)
	log   *slog.Logger // nil: errors are returned and not logged

	mu    sync.Mutex
	last  tlsContents
	good  *tls.Config
	wrong string // what was last logged
}

// tlsContents is what the files hold; nil stands for a file that is not named.
type tlsContents struct{ ca, cert, key []byte }

func (c tlsContents) equal(o tlsContents) bool {
	return bytes.Equal(c.ca, o.ca) && bytes.Equal(c.cert, o.cert) && bytes.Equal(c.key, o.key)
}

// config returns the same value as long as the files hold the same. It fails only if there never was a
// usable set.
func (f *tlsFiles) config() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	contents, err := f.names.read()
	if err == nil && f.good != nil && contents.equal(f.last) {
		f.wrong = ""
		return f.good, nil
	}
	var made *tls.Config
	if err == nil {
		made, err = f.build(f.names, contents)
	}
	switch {
	case err == nil:
		f.last, f.good, f.wrong = contents, made, ""
	case f.good == nil:
		return nil, err
	case f.log != nil && f.wrong != err.Error():
		f.wrong = err.Error()
		f.log.Warn("a TLS file was changed and can't be used; what it held before stays in use", "error", err)
	}
	return f.good, nil
}

// server makes the configuration of a listener, which asks for the files at each handshake.
func (f *tlsFiles) server() *tls.Config {
	out := &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.config() }}
	if f.names.CAFile != "" {
		out.ClientAuth = tls.RequireAndVerifyClientCert // for what the server tells its clients
	}
	return out
}

// clientConfig trusts ca_file instead of the system's authorities and shows cert_file.
func clientConfig(names TLS, c tlsContents) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: names.ServerName}
	return out, fill(out, &out.RootCAs, names, c)
}

// serverConfig shows cert_file. With ca_file it lets in only who has a certificate of that authority, or
// the server's own: whoever can read key_file is the gateway itself, and that is how `fleetbridge dead`
// comes in.
func serverConfig(names TLS, c tlsContents) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true} // each handshake is checked
	var authorities *x509.CertPool
	if err := fill(out, &authorities, names, c); err != nil || authorities == nil {
		return out, err
	}
	own := out.Certificates[0].Leaf
	out.ClientAuth = tls.RequireAnyClientCert
	out.VerifyConnection = func(s tls.ConnectionState) error {
		leaf := s.PeerCertificates[0]
		if leaf.Equal(own) {
			return nil
		}
		between := x509.NewCertPool()
		for _, c := range s.PeerCertificates[1:] {
			between.AddCert(c)
		}
		_, err := leaf.Verify(x509.VerifyOptions{Roots: authorities, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		return err
	}
	return out, nil
}

// ownerConfig is for a client that has the listener's own files: it expects exactly that certificate,
// whatever name it is reached by, and shows it if it is asked.
func ownerConfig(names TLS, c tlsContents) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} // VerifyConnection is stricter
	var none *x509.CertPool
	if err := fill(out, &none, names, c); err != nil {
		return nil, err
	}
	own := out.Certificates[0].Leaf
	out.VerifyConnection = func(s tls.ConnectionState) error {
		if !s.PeerCertificates[0].Equal(own) {
			return fmt.Errorf("the server's certificate is not that of %s: another server listens there", names.CertFile)
		}
		return nil
	}
	return out, nil
}

// fill puts what the files hold where it belongs. Its errors name the key.
func fill(c *tls.Config, authorities **x509.CertPool, names TLS, from tlsContents) error {
	if from.ca != nil {
		*authorities = x509.NewCertPool()
		if !(*authorities).AppendCertsFromPEM(from.ca) {
			return &tlsFileError{"ca_file", fmt.Errorf("%s holds no PEM certificate", names.CAFile)}
		}
	}
	if from.cert == nil {
		return nil
	}
	if !x509.NewCertPool().AppendCertsFromPEM(from.cert) {
		return &tlsFileError{"cert_file", fmt.Errorf("%s holds no PEM certificate", names.CertFile)}
	}
	pair, err := tls.X509KeyPair(from.cert, from.key)
	if err != nil {
		return &tlsFileError{"key_file", errors.New(names.KeyFile + " does not fit cert_file: " + err.Error())}
	}
	c.Certificates = []tls.Certificate{pair}
	return nil
}

// maxPEMBytes is four times what all authorities of a system take.
const maxPEMBytes = 1 << 20

// read reads the files that are named.
func (t TLS) read() (tlsContents, error) {
	var out tlsContents
	for _, f := range []struct {
		key, name string
		data      *[]byte
	}{{"ca_file", t.CAFile, &out.ca}, {"cert_file", t.CertFile, &out.cert}, {"key_file", t.KeyFile, &out.key}} {
		if f.name == "" {
			continue
		}
		file, err := plainfile.Read(f.name, "certificate", maxPEMBytes)
		if err != nil {
			return out, &tlsFileError{f.key, fileError(f.name, err)}
		}
		*f.data = append([]byte{}, file.Data...) // an empty file is a file
	}
	return out, nil
}

// tlsFileError tells which of a section's keys is to blame.
type tlsFileError struct {
	key string
	err error
}

func (e *tlsFileError) Error() string { return e.key + ": " + e.err.Error() }
func (e *tlsFileError) Unwrap() error { return e.err }
