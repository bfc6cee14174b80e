package gateway

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// TestHostsOfOthers: under a name that somebody else's DNS may lead here, nothing is told.
func TestHostsOfOthers(t *testing.T) {
	t.Parallel()
	own, _ := os.Hostname()
	srv := newHTTPServer(onlyKnownHosts("gateway-7:9321", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	for host, want := range map[string]string{
		"localhost": "200", "localhost:9321": "200", "LOCALHOST.": "200", "a.localhost:1": "200", "127.0.0.1": "200", "127.0.0.1:9321": "200", "[::1]:9321": "200", "[::1]": "200",
		"[fe80::1%25lo]:9321": "200", "192.0.2.7:9321": "200", "gateway-7:9321": "200", own: "200", "": "200",
		"evil.example": "421", "evil.example:9321": "421", "127.0.0.1.evil.example": "421", "localhost.evil.example": "421", "evil.example.": "421", "notlocalhost": "421", "x": "421",
		"2130706433": "421", "0x7f.1": "421", "localhost@evil.example": "400", "evil.example/localhost": "400",
	} {
		line, err := bufio.NewReader(say(t, l.Addr().String(), "GET /metrics HTTP/1.1\r\nHost: "+host+"\r\n\r\n")).ReadString('\n')
		if !strings.Contains(line, " "+want+" ") && !(want == "400" && strings.Contains(line, " 421 ")) {
			t.Errorf("%q: %q, %v, want %s", host, line, err, want)
		}
	}
}

// TestNamesOfContainers: on an address that is not loopback, as a container has, it is asked for by whatever name.
func TestNamesOfContainers(t *testing.T) {
	t.Parallel()
	h := onlyKnownHosts("0.0.0.0:9321", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for at, want := range map[string]int{"172.18.0.3": 200, "127.0.0.1": 421, "::1": 421} {
		r := httptest.NewRequest("GET", "http://fleetbridge.monitoring.svc:9321/metrics", nil)
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.ParseIP(at), Port: 9321})))
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s: %d, want %d", at, w.Code, want)
		}
	}
}

// A link to a console with TLS has the name that its certificate has, if it leads elsewhere than to loopback.
func TestSecureURL(t *testing.T) {
	named := Console{Hosts: []string{"gw.example.lan", "other"}}
	for _, c := range []struct {
		console       Console
		address, want string
	}{
		{named, "0.0.0.0:9322", "https://gw.example.lan:9322"}, {named, "[::]:9322", "https://gw.example.lan:9322"}, {named, "10.0.0.7:443", "https://gw.example.lan:443"},
		{named, "127.0.0.1:9322", "https://127.0.0.1:9322"}, {Console{}, "[::]:9322", "https://localhost:9322"}, {Console{}, "10.0.0.7:443", "https://10.0.0.7:443"},
	} {
		if got := c.console.secureURL(c.address); got != c.want {
			t.Errorf("%s with %v: %s, not %s", c.address, c.console.Hosts, got, c.want)
		}
	}
}
