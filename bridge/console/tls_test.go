package console

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fleetbridge/bridge/gateway"
)

// issue writes a certificate for this machine that signs itself, and its key.
func issue(t *testing.T, dir string) gateway.ListenTLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	out := gateway.ListenTLS{CertFile: filepath.Join(dir, "console.pem"), KeyFile: filepath.Join(dir, "console.key")}
	for path, block := range map[string]*pem.Block{out.CertFile: {Type: "CERTIFICATE", Bytes: der}, out.KeyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// trusting asks servers that have the certificate of a file.
func trusting(t *testing.T, file string) *http.Transport {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	out := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(out.CloseIdleConnections)
	return out
}

// With console.tls the console speaks TLS only, on the page, the API and tails. A renewed certificate is used from the next
// connection on, and logins stay. What strangers do wrong is no warning.
func TestTLS(t *testing.T) {
	var beside bytes.Buffer
	log.SetOutput(&beside) // where an HTTP server without a log of its own writes
	dir := t.TempDir()
	t.Cleanup(func() {
		log.SetOutput(os.Stderr)
		if beside.Len() > 0 {
			t.Errorf("written beside the log: %s", beside.String())
		}
	})
	s := open(t, func(c *gateway.Config) { c.Console.TLS = issue(t, dir) })
	if !strings.HasPrefix(s.url, "https://127.0.0.1:") {
		t.Fatalf("the link leads to %s", s.url)
	}
	if certificates := s.gw.Certificates(); len(certificates) != 1 || certificates[0].Use != "console.tls.cert_file" {
		t.Errorf("watched are %+v", certificates)
	}
	r := s.tail(s.token, "channel=event")
	s.publish("fleets.up.pump-07.events.hot", `{"eventType":"hot","severity":"info"}`)
	if rows, _ := r.rows(1); rows[0].ID != "hot" {
		t.Errorf("%+v", rows)
	}
	plain, err := http.Get("http://" + strings.TrimPrefix(s.url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(plain.Body)
	_ = plain.Body.Close()
	if plain.StatusCode != http.StatusBadRequest || strings.Contains(string(text), "fleetbridge") {
		t.Errorf("without TLS: %d %s", plain.StatusCode, text)
	}
	old := s.web
	issue(t, dir)
	s.web = trusting(t, s.cfg.Console.TLS.CertFile)
	if code, text := s.call(s.token, "GET", base+"overview", nil); code != http.StatusOK {
		t.Errorf("with the renewed certificate: %d %s", code, text)
	}
	old.CloseIdleConnections()
	s.publish("fleets.up.pump-07.events.cold", `{"eventType":"cold","severity":"info"}`)
	if rows, _ := r.rows(1); rows[0].ID != "cold" {
		t.Errorf("the tail from before: %+v", rows)
	}
	q, err := http.NewRequestWithContext(s.context(), "GET", s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := old.RoundTrip(q); err == nil {
		_ = answer.Body.Close()
		t.Error("the old certificate is shown still")
	}
}

// With ca_file, only browsers with a certificate of that authority get in.
func TestClientCertificates(t *testing.T) {
	own, dir := t.TempDir(), t.TempDir()
	client := issue(t, own)
	s := open(t, func(c *gateway.Config) { c.Console.TLS = issue(t, dir) })
	s.stop()
	s.cfg.Console.TLS.CAFile = client.CertFile
	without := s.web
	pair, err := tls.LoadX509KeyPair(client.CertFile, client.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	s.web = trusting(t, s.cfg.Console.TLS.CertFile)
	s.web.TLSClientConfig.Certificates = []tls.Certificate{pair}
	s.start(s.gw.Log())
	q, err := http.NewRequestWithContext(s.context(), "GET", s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := without.RoundTrip(q); err == nil {
		_ = answer.Body.Close()
		t.Errorf("without a certificate: %d", answer.StatusCode)
	}
}
