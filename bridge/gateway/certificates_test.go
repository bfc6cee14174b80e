package gateway

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeCertificates writes one file of certificates that expire then.
func writeCertificates(t *testing.T, path string, expire ...time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for _, at := range expire {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: at}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	write(t, path, out)
}

// A certificate is warned of from 30 days before it expires on, once a day, and once more when it has;
// a renewal ends that. The metric follows the file.
func TestExpiry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, pair := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "pair.pem")
	const day = 24 * time.Hour
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	writeCertificates(t, ca, start.Add(5*day), start.Add(900*day))                                                // an old authority beside the new
	writeCertificates(t, pair, start.Add(400*day), start.Add(40*day), start.Add(800*day))                         // the one between expires first
	c := &Config{MQTT: MQTT{Server: []string{"mqtts://h:1"}, TLS: TLS{CAFile: ca, CertFile: pair, KeyFile: "k"}}, // shared
		Things: []Thing{{Name: "a", TLS: KeyPair{pair, "k"}}, {Name: "b"}}}

	var log bytes.Buffer
	m := testMetrics()
	watch := newCertificates(m, slog.New(slog.NewTextHandler(&log, nil)))
	watch.files = c.certificates()
	if len(watch.files) != 3 {
		t.Fatalf("files %v", watch.files)
	}
	watch.files = watch.files[:2] // the third is the second again, with another use
	said := func(after time.Duration, want ...string) {
		t.Helper()
		log.Reset()
		watch.look(start.Add(after))
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(want) == 0 && log.Len() > 0 || len(want) > 0 && len(lines) != 1 {
			t.Fatalf("after %v: %s", after, &log)
		}
		for _, w := range want {
			if !strings.Contains(lines[0], w) {
				t.Errorf("after %v: %q is not in %s", after, w, lines[0])
			}
		}
	}
	expiry := func(file, use string, want time.Time) {
		t.Helper()
		series := fmt.Sprintf("fleetbridge_certificate_expiry_timestamp_seconds{file=%q,use=%q}", file, use)
		if got := sample(t, m, series); want.IsZero() != (got == "") || got != "" && got != fmt.Sprintf("%.9e", float64(want.Unix())) && got != fmt.Sprint(float64(want.Unix())) {
			t.Errorf("%s: got %q, want %v", use, got, want.Unix())
		}
	}
	said(0)
	expiry(ca, "mqtt.tls.ca_file", start.Add(900*day))
	expiry(pair, "mqtt.tls.cert_file", start.Add(40*day))
	said(9 * day)
	said(10*day+time.Hour, "WARN", "expires soon", pair, "mqtt.tls.cert_file", "days=29")
	said(11 * day)
	said(11*day+2*time.Hour, "WARN", "days=28")
	said(39*day+23*time.Hour, "WARN", "days=0")
	said(40*day, "ERROR", "expired", pair)
	said(40*day + 23*time.Hour)
	said(41*day+time.Hour, "ERROR")
	writeCertificates(t, pair, start.Add(500*day))
	said(41*day+2*time.Hour, "INFO", "renewed")
	expiry(pair, "mqtt.tls.cert_file", start.Add(500*day))
	write(t, pair, []byte("half"))
	said(42 * day)
	expiry(pair, "mqtt.tls.cert_file", start.Add(500*day))
	if got := (&Gateway{certificates: watch}).Certificates(); len(got) != 2 || got[0].File != pair || got[0].Use != "mqtt.tls.cert_file" || !got[1].Expires.After(got[0].Expires) {
		t.Errorf("in use: %+v", got)
	}
	watch.use(nil)
	expiry(pair, "mqtt.tls.cert_file", time.Time{})
}
