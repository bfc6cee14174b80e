package gateway

import (
	"errors"
	"strings"
)

// tls checks the files of a section and joins their paths to the directory of the configuration.
func (v *validator) tls(path string, t *TLS) {
	for _, file := range []*string{&t.CAFile, &t.CertFile, &t.KeyFile} {
		if *file != "" {
			*file = v.join(path, *file)
			v.watch(*file)
		}
	}
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		v.problem(path+".key_file", "is missing, cert_file needs it")
	case t.CertFile == "" && t.KeyFile != "":
		v.problem(path+".cert_file", "is missing, key_file needs it")
	}
	// Each by itself, so that all problems are reported together.
	authority, pair := TLS{CAFile: t.CAFile}, TLS{CertFile: t.CertFile, KeyFile: t.KeyFile}
	if pair.CertFile == "" || pair.KeyFile == "" {
		pair = TLS{}
	}
	for _, part := range []TLS{authority, pair} {
		_, err := part.Client()
		if wrong := (*tlsFileError)(nil); errors.As(err, &wrong) {
			v.problem(path+"."+wrong.key, "%s", wrong.err)
		}
	}
	v.openKey(path+".key_file", t.KeyFile)
}

// keyPair is tls for a section that has no authority.
func (v *validator) keyPair(path string, p *KeyPair) {
	t := p.withTLS(TLS{})
	v.tls(path, &t)
	p.CertFile, p.KeyFile = t.CertFile, t.KeyFile
}

// listenTLS checks what the embedded server shows, and whom it asks for a certificate.
func (v *validator) listenTLS(path string, l *ListenTLS) {
	t := l.files()
	v.tls(path, &t)
	l.CertFile, l.KeyFile, l.CAFile = t.CertFile, t.KeyFile, t.CAFile
	if l.CAFile != "" && l.CertFile == "" && l.KeyFile == "" {
		v.problem(path+".cert_file", "is missing: ca_file is for the clients' certificates, the server needs one of its own")
	}
}

// secure reports whether a broker's URL is one of TLS.
func secure(server string) bool {
	return strings.HasPrefix(server, "mqtts:") || strings.HasPrefix(server, "wss:")
}
