package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// served starts the server that the pages have.
func served(t *testing.T, change func(*http.Server)) (address string) {
	t.Helper()
	srv := newHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	}))
	if change != nil {
		change(srv)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return l.Addr().String()
}

func say(t *testing.T, address, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSlowHTTPClients: who doesn't finish a request, or asks nothing more, is let go.
func TestSlowHTTPClients(t *testing.T) {
	srv := newHTTPServer(nil)
	if srv.ReadHeaderTimeout <= 0 || srv.ReadTimeout <= 0 || srv.WriteTimeout <= 0 || srv.IdleTimeout <= 0 {
		t.Errorf("no limit on time: %+v", srv)
	}
	address := served(t, func(s *http.Server) {
		s.ReadHeaderTimeout, s.ReadTimeout, s.IdleTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	})
	for _, text := range []string{"", "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"} {
		if _, err := io.ReadAll(say(t, address, text)); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%q: still open", text)
		}
	}
}

func TestLargeHTTPRequests(t *testing.T) {
	address := served(t, nil)
	for text, want := range map[string]string{
		"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 32<<10) + "\r\n\r\n":            "431",
		"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("x", 5000): "413",
		"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n":                                                      "200",
	} {
		line, err := bufio.NewReader(say(t, address, text)).ReadString('\n')
		if !strings.Contains(line, want) {
			t.Errorf("%.40q: %q, %v, want %s", text, line, err, want)
		}
	}
}

// TestManyHTTPConnections: those beyond the limit are closed, and room that is made is used.
func TestManyHTTPConnections(t *testing.T) {
	address := served(t, nil)
	var conns []net.Conn
	for range maxHTTPConns {
		c := say(t, address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("%d, %v", n, err)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Get("http://" + address)
		if err == nil {
			_ = res.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// A listener on all addresses is asked on this machine; another stays.
func TestHTTPURL(t *testing.T) {
	for listen, want := range map[string]string{
		"0.0.0.0:9321": "localhost:9321", ":9321": "localhost:9321", "[::]:9321": "localhost:9321",
		"127.0.0.1:9321": "127.0.0.1:9321", "192.0.2.7:9321": "192.0.2.7:9321", "gateway:9321": "gateway:9321",
	} {
		if got := (HTTP{Listen: listen}).URL(); got != "http://"+want {
			t.Errorf("%s: got %s, want %s", listen, got, want)
		}
	}
}
