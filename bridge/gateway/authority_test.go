package gateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// authority signs certificates and writes what it signed as files.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its own certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	var der []byte
	a.key, der = sign(t, template, template, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = filepath.Join(a.dir, "ca.pem")
	writeFile(t, a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

func sign(t *testing.T, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

// pair is a certificate and its key, as files.
type pair struct{ cert, key string }

// issue writes a certificate for 127.0.0.1 and its key, in the place of one that has the name.
func (a *authority) issue(name string, expires time.Time, hosts ...string) pair {
	a.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: expires,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, DNSNames: hosts,
	}
	if len(hosts) == 0 {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	key, der := sign(a.t, template, a.cert, a.key)
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	p := pair{filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")}
	writeFile(a.t, p.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	writeFile(a.t, p.key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))
	return p
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) load(p pair) tls.Certificate {
	a.t.Helper()
	c, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// nextYear is when certificates expire that nobody warns of.
func nextYear() time.Time { return time.Now().AddDate(1, 0, 0) }

// front stands before a broker, with TLS or without, and remembers who came.
type front struct {
	t      *testing.T
	url    string
	target string

	mu    sync.Mutex
	conns []net.Conn
	peers []*x509.Certificate // nil: without one
	some  chan struct{}       // closed, and made anew, when somebody has come
}

// newFront listens until the test ends; config nil: without TLS.
func newFront(t *testing.T, broker string, config *tls.Config) *front {
	t.Helper()
	u, err := url.Parse(broker)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{t: t, target: u.Host, url: "mqtt://" + l.Addr().String(), some: make(chan struct{})}
	if config != nil {
		f.url, l = "mqtts://"+l.Addr().String(), tls.NewListener(l, config)
	}
	t.Cleanup(func() { _ = l.Close(); f.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
	return f
}

func (f *front) serve(c net.Conn) {
	defer c.Close()
	var peer *x509.Certificate
	if secure, ok := c.(*tls.Conn); ok {
		if secure.Handshake() != nil {
			return
		}
		if certs := secure.ConnectionState().PeerCertificates; len(certs) > 0 {
			peer = certs[0]
		}
	}
	behind, err := net.Dial("tcp", f.target)
	if err != nil {
		return
	}
	defer behind.Close()
	f.mu.Lock()
	f.conns, f.peers = append(f.conns, c), append(f.peers, peer)
	close(f.some)
	f.some = make(chan struct{})
	f.mu.Unlock()
	go func() { _, _ = io.Copy(behind, c); _ = behind.Close() }()
	_, _ = io.Copy(c, behind)
}

// cut ends every connection.
func (f *front) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
}

// came lists who has come so far.
func (f *front) came() []*x509.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*x509.Certificate{}, f.peers...)
}

// wait returns when so many have come.
func (f *front) wait(n int) []*x509.Certificate {
	f.t.Helper()
	timeout := time.After(patience)
	for {
		f.mu.Lock()
		some, now := f.some, append([]*x509.Certificate{}, f.peers...)
		f.mu.Unlock()
		if len(now) >= n {
			return now
		}
		select {
		case <-some:
		case <-timeout:
			f.t.Fatalf("%d connections, want %d", len(now), n)
		}
	}
}
