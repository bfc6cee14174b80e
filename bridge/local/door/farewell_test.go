package door

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestFarewell: who reads nothing any more is not waited for when TLS says goodbye.
func TestFarewell(t *testing.T) {
	s := httptest.NewTLSServer(nil)
	t.Cleanup(s.Close)
	config := &tls.Config{Certificates: s.TLS.Certificates}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	deaf, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	_ = deaf.(*net.TCPConn).SetReadBuffer(4 << 10)
	taken, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	tcp := taken.(*net.TCPConn)
	_ = tcp.SetWriteBuffer(4 << 10)
	shook := make(chan error, 1)
	go func() { shook <- tls.Client(deaf, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
	var over atomic.Bool
	deadlines := &deadlines{below: below{tcp, &over}}
	c := tls.Server(deadlines, config)
	if err := errors.Join(c.Handshake(), <-shook); err != nil {
		t.Fatal(err)
	}
	over.Store(true)
	begun := time.Now()
	_ = c.Close()
	for _, d := range deadlines.set {
		if d.After(begun.Add(2 * time.Second)) {
			t.Errorf("the goodbye may take %v", d.Sub(begun))
		}
	}
	if len(deadlines.set) == 0 {
		t.Error("TLS sets no deadline for its goodbye")
	}
}

// deadlines notes what is set.
type deadlines struct {
	below
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set = append(d.set, d.limit(t))
	return d.below.SetWriteDeadline(t)
}
