package traces

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"fleetbridge/internal/plainfile"
)

// clientTime is how long a collector may take, unless a variable says otherwise; the library's own.
const clientTime = 10 * time.Second

// newClient makes a client that asks traces.endpoint and nobody else: behind a redirect others would get the headers, which
// hold the collector's token. For a client that it is given the library reads neither certificates nor the time-out from
// the variables, so they are read here. The error names the variable.
func newClient() (*http.Client, error) {
	limit := clientTime
	if name, v := variable("TIMEOUT"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, fmt.Errorf("%s is %q, not a number of milliseconds", name, v)
		}
		limit = time.Duration(n) * time.Millisecond
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if name, file := variable("CERTIFICATE"); file != "" {
		pem, err := read(name, file)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: %s holds no certificate in PEM form", name, file)
		}
	}
	name, cert := variable("CLIENT_CERTIFICATE")
	ofKey, key := variable("CLIENT_KEY")
	if (cert == "") != (key == "") {
		return nil, errors.New("of OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY only one is set, set both")
	}
	if cert != "" {
		certPEM, err := read(name, cert)
		if err != nil {
			return nil, err
		}
		keyPEM, err := read(ofKey, key)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", name, ofKey, err)
		}
		t.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: t, Timeout: limit, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// maxPEMBytes is four times what all authorities of a system take.
const maxPEMBytes = 1 << 20

// read reads the file that a variable names.
func read(variable, path string) ([]byte, error) {
	file, err := plainfile.Read(path, "certificate", maxPEMBytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	return file.Data, nil
}

// variable is the one for traces, or else the one for all signals.
func variable(of string) (name, value string) {
	for _, name = range [...]string{"OTEL_EXPORTER_OTLP_TRACES_" + of, "OTEL_EXPORTER_OTLP_" + of} {
		if value = strings.TrimSpace(os.Getenv(name)); value != "" {
			break
		}
	}
	return name, value
}
