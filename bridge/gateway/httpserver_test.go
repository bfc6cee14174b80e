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
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSlowHTTPClients: who doesn't finish a request, or asks nothing more, is let go.
func TestSlowHTTPClients(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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

// TestManyHTTPConnections: whatever others hold open, who asks is answered, and the number of open connections is
// bounded. The one that has waited longest is closed, not the newest, and none that is being answered.
func TestManyHTTPConnections(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"silent": "", "idle after a request": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"half a request": "GET / HTTP/1.1\r\nHost: x\r\nX: ", "no body": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
		"noise": "\x16\x03\x01",
	} {
		t.Run(name, func(t *testing.T) {
			address := served(t, nil)
			var conns []net.Conn
			for range 4 * maxHTTPConns {
				conns = append(conns, say(t, address, text))
			}
			client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
			for range 40 {
				res, err := client.Get("http://" + address)
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Body.Close()
			}
			closed := make(chan bool, len(conns))
			for _, c := range conns {
				go func() {
					_, err := io.Copy(io.Discard, c)
					closed <- err == nil || !strings.Contains(err.Error(), "timeout")
				}()
			}
			for range 3 * maxHTTPConns {
				if !<-closed {
					t.Fatal("more are open than the limit")
				}
			}
		})
	}
}

func TestWhichHTTPConnectionGoes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, c := range []struct {
		name string
		a, b visitor
		want bool
	}{
		{"the one that came first", visitor{seen: ago(2)}, visitor{seen: ago(1)}, true},
		{"not the newest", visitor{seen: ago(1)}, visitor{seen: ago(2)}, false},
		{"one that waits, before one that is answered", visitor{seen: ago(1)}, visitor{seen: ago(2), served: true}, true},
		{"one that is answered and does not read, before one that came now", visitor{seen: ago(time.Minute), served: true}, visitor{seen: now}, true},
		{"one of a stranger that is answered, before one with a login that is answered for long", visitor{seen: ago(1), served: true}, visitor{seen: ago(time.Hour), served: true, known: true}, true},
		{"one of a stranger that waits, before one whose page will ask again", visitor{seen: ago(1)}, visitor{seen: ago(time.Second), known: true}, true},
		{"of those that are answered the first", visitor{seen: ago(2), served: true}, visitor{seen: ago(1), served: true}, true},
	} {
		if got := c.a.before(&c.b, now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// A listener on all addresses is asked on this machine; another stays.
func TestHTTPURL(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		"0.0.0.0:9321": "localhost:9321", ":9321": "localhost:9321", "[::]:9321": "localhost:9321",
		"127.0.0.1:9321": "127.0.0.1:9321", "192.0.2.7:9321": "192.0.2.7:9321", "gateway:9321": "gateway:9321",
	} {
		if got := (HTTP{Listen: listen}).URL(); got != "http://"+want {
			t.Errorf("%s: got %s, want %s", listen, got, want)
		}
	}
}
