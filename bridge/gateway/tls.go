package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

func (v *validator) tls(path string, t *TLS) {
	for _, file := range []*string{&t.CAFile, &t.CertFile, &t.KeyFile} {
		if *file != "" {
			*file = v.join(*file)
		}
	}
	if _, err := t.pool(); err != nil {
		v.problem(path+".ca_file", "%s", err)
	}
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		v.problem(path+".key_file", "is missing, cert_file needs it")
	case t.CertFile == "" && t.KeyFile != "":
		v.problem(path+".cert_file", "is missing, key_file needs it")
	case t.CertFile != "":
		if key, err := t.certificate(); err != nil && key {
			v.problem(path+".key_file", "%s", err)
		} else if err != nil {
			v.problem(path+".cert_file", "%s", err)
		}
	}
}

// Client makes the TLS configuration of a connection that this gateway opens; nil, the system's
// authorities and nothing else, when nothing is configured. It reads the files anew, so a renewed
// certificate is used from the next call on.
func (t TLS) Client() (*tls.Config, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	var err error
	if c.RootCAs, err = t.pool(); err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	if t.CertFile == "" {
		return c, nil
	}
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("cert_file and key_file: %w", err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

// pool is nil, the system's authorities, when no ca_file is named.
func (t TLS) pool() (*x509.CertPool, error) {
	if t.CAFile == "" {
		return nil, nil
	}
	data, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, fileError(t.CAFile, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no PEM certificate", t.CAFile)
	}
	return pool, nil
}

// certificate checks that the pair can be used; key tells which of the two files is to blame.
func (t TLS) certificate() (key bool, err error) {
	cert, err := os.ReadFile(t.CertFile)
	if err != nil {
		return false, fileError(t.CertFile, err)
	}
	private, err := os.ReadFile(t.KeyFile)
	if err != nil {
		return true, fileError(t.KeyFile, err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(cert) {
		return false, fmt.Errorf("%s holds no PEM certificate", t.CertFile)
	}
	if _, err := tls.X509KeyPair(cert, private); err != nil {
		return true, errors.New(t.KeyFile + " does not fit cert_file: " + err.Error())
	}
	return false, nil
}
