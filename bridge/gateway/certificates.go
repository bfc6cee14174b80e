package gateway

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"fleetbridge/internal/plainfile"
)

// certificateFile is a file of certificates that the configuration names, and the key that does.
type certificateFile struct {
	file, use   string
	authorities bool
}

// certificates lists the files of certificates that are used.
func (c *Config) certificates() []certificateFile {
	var out []certificateFile
	add := func(use string, t TLS) {
		for _, f := range []certificateFile{{t.CAFile, use + ".ca_file", true}, {t.CertFile, use + ".cert_file", false}} {
			if f.file != "" && !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	if slices.ContainsFunc(c.MQTT.Server, secure) {
		add("mqtt.tls", c.MQTT.TLS)
		for _, t := range c.Things {
			add("things.tls", t.TLS.withTLS(TLS{}))
		}
	}
	if c.Fleets.URL != "" {
		add("fleets.tls", c.Fleets.TLS)
	}
	if c.NATS.URL != "" {
		add("nats.tls", c.NATS.TLS)
	} else {
		add("nats.embedded.tls", c.NATS.Embedded.TLS.files())
	}
	if c.Console.Listen != "" {
		add("console.tls", c.Console.TLS.files())
	}
	return out
}

// expires returns when the file expires. Of a chain the first certificate to expire counts. Of several authorities the last
// one counts, because old and new ones may be in the file together for a while.
func (f certificateFile) expires() (time.Time, error) {
	file, err := plainfile.Read(f.file, "certificate", maxPEMBytes)
	if err != nil {
		return time.Time{}, fileError(f.file, err)
	}
	var out time.Time
	data := file.Data
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue // what uses the file skips or refuses it
		}
		if out.IsZero() || f.authorities == c.NotAfter.After(out) {
			out = c.NotAfter
		}
	}
	if out.IsZero() {
		return out, fmt.Errorf("%s holds no PEM certificate", f.file)
	}
	return out, nil
}

const (
	// certificateInterval is how often the files are read for the metrics and warnings.
	certificateInterval = time.Minute
	// expiryNotice is how long before a certificate expires the first warning comes, and expiryPause the time between two
	// warnings.
	expiryNotice = 30 * 24 * time.Hour
	expiryPause  = 24 * time.Hour
)

// certificates watches when the certificates in use expire.
type certificates struct {
	metrics *Metrics
	log     *slog.Logger

	mu    sync.Mutex
	files []certificateFile
	known map[certificateFile]*notice
}

// notice is what is known about one file, and what was logged last.
type notice struct {
	expires time.Time
	told    time.Time // when it was last logged; zero: never
	expired bool      // it was logged that the file has expired
}

func newCertificates(m *Metrics, log *slog.Logger) *certificates {
	return &certificates{metrics: m, log: log, known: map[certificateFile]*notice{}}
}

// use watches these files from now on.
func (c *certificates) use(files []certificateFile) {
	c.mu.Lock()
	c.files = files
	c.mu.Unlock()
	c.look(time.Now())
}

// follow looks again and again until ctx ends.
func (c *certificates) follow(ctx context.Context) {
	ticker := time.NewTicker(certificateInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.look(time.Now())
		}
	}
}

// look reads every file once. A file that can't be read keeps its last value; whoever uses it logs the error.
func (c *certificates) look(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for f := range c.known {
		if !slices.Contains(c.files, f) {
			delete(c.known, f)
			c.metrics.expiry.DeleteLabelValues(f.file, f.use)
		}
	}
	for _, f := range c.files {
		expires, err := f.expires()
		if err != nil {
			continue
		}
		n := c.known[f]
		if n == nil || !n.expires.Equal(expires) {
			if n != nil {
				c.log.Info("certificate renewed, used from the next connection on", "file", f.file, "use", f.use, "expires", expires.UTC())
			}
			n = &notice{expires: expires}
			c.known[f] = n
			c.metrics.expiry.WithLabelValues(f.file, f.use).Set(float64(expires.Unix()))
		}
		c.warn(f, n, now)
	}
}

// Certificate is a file of certificates in use, the key that names it, and when it expires.
type Certificate struct {
	File    string    `json:"file"`
	Use     string    `json:"use"`
	Expires time.Time `json:"expires"`
}

// Certificates are those in use, the next to expire first.
func (g *Gateway) Certificates() []Certificate {
	g.certificates.mu.Lock()
	defer g.certificates.mu.Unlock()
	var out []Certificate
	for f, n := range g.certificates.known {
		out = append(out, Certificate{f.file, f.use, n.expires.UTC()})
	}
	slices.SortFunc(out, func(a, b Certificate) int {
		return cmp.Or(a.Expires.Compare(b.Expires), cmp.Compare(a.File+a.Use, b.File+b.Use))
	})
	return out
}

// warn logs once a day, and when the certificate expires.
func (c *certificates) warn(f certificateFile, n *notice, now time.Time) {
	left := n.expires.Sub(now)
	expired := left <= 0
	if left > expiryNotice || !n.told.IsZero() && n.expired == expired && now.Sub(n.told) < expiryPause {
		return
	}
	n.told, n.expired = now, expired
	if expired {
		c.log.Error("certificate has expired: new connections fail, renew the file", "file", f.file, "use", f.use, "expired", n.expires.UTC())
		return
	}
	c.log.Warn("certificate expires soon, renew the file", "file", f.file, "use", f.use, "expires", n.expires.UTC(), "days", int(left/(24*time.Hour)))
}
