package console

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// What an adversary sends is refused with a reason, whatever it is: nothing gets in, nothing panics, and nothing of it comes
// back as a header or as markup. docs/security.md lists these.
func TestAdversary(t *testing.T) {
	s := open(t, nil)
	in := "Bearer " + s.token
	for _, c := range []struct {
		name, request string
		code          int
	}{
		// Who am I: a login is a header, and nothing else.
		{"token in the URL", "GET /api/v1/overview?token=" + s.token + " HTTP/1.1", 401},
		{"token as a cookie", "GET /api/v1/overview HTTP/1.1\r\nCookie: token=" + s.token + "; Authorization=" + in, 401},
		{"token as a password", "GET /api/v1/overview HTTP/1.1\r\nAuthorization: Basic " + s.token, 401},
		{"token behind another", "GET /api/v1/overview HTTP/1.1\r\nAuthorization: Bearer x\r\nAuthorization: " + in, 401},
		{"token with a NUL", "GET /api/v1/overview HTTP/1.1\r\nAuthorization: " + in + "\x00", 400},
		{"no token, from a proxy that says who it is", "GET /api/v1/overview HTTP/1.1\r\nX-Forwarded-User: admin\r\nX-Forwarded-For: 127.0.0.1\r\nX-Original-URL: /", 401},
		// Where am I: the host.
		{"host with a login before it", "GET /api/v1/overview HTTP/1.1\r\nHost: 127.0.0.1@evil.example\r\nAuthorization: " + in, 400},
		{"host that begins like an address", "GET /api/v1/overview HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\nAuthorization: " + in, 421},
		{"host that the target names", "GET http://evil.example/api/v1/overview HTTP/1.1\r\nAuthorization: " + in, 421},
		{"two hosts", "GET /api/v1/overview HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\nAuthorization: " + in, 400},
		{"a name for the proxy", "GET /api/v1/overview HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: 127.0.0.1\r\nAuthorization: " + in, 421},
		{"a host with markup", "GET / HTTP/1.1\r\nHost: <script>alert(1)</script>", 400},
		// Which site: a browser of somebody who is logged in.
		{"origin of another site", "POST /api/v1/dead/discard HTTP/1.1\r\nOrigin: http://evil.example\r\nAuthorization: " + in, 403},
		{"origin null, of a frame or a file", "POST /api/v1/dead/discard HTTP/1.1\r\nOrigin: null\r\nAuthorization: " + in, 403},
		{"origin of another port", "POST /api/v1/dead/discard HTTP/1.1\r\nOrigin: http://127.0.0.1:8000\r\nAuthorization: " + in, 403},
		{"a question before, as browsers ask", "OPTIONS /api/v1/dead/discard HTTP/1.1\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: POST", 404},
		{"a form", "POST /api/v1/session HTTP/1.1\r\nSec-Fetch-Site: cross-site\r\nContent-Type: text/plain", 403},
		{"a method by header", "GET /api/v1/dead/discard HTTP/1.1\r\nX-HTTP-Method-Override: POST\r\nAuthorization: " + in, 404},
		// Which path: around the guard, and out of the files.
		{"a path with two slashes", "GET //api/v1/overview HTTP/1.1", 0},
		{"a path with dots", "GET /x/../api/v1/overview HTTP/1.1", 0},
		{"a path with dots in code", "GET /api/v1/%2e%2e/v1/overview HTTP/1.1", 0},
		{"a path with a slash in code", "GET /api%2fv1/overview HTTP/1.1", 404},
		{"a path in capitals", "GET /API/v1/overview HTTP/1.1", 404},
		{"a file beside the page", "GET /..%2f..%2fconsole.go HTTP/1.1", 404},
		{"a Thing that is a path", "GET /api/v1/things/..%2f..%2fconfig HTTP/1.1\r\nAuthorization: " + in, 404},
		{"a Thing with NUL and CR LF", "GET /api/v1/things/a%00%0d%0aSet-Cookie:x HTTP/1.1\r\nAuthorization: " + in, 404},
		{"a Thing with wildcards of NATS", "GET /api/v1/things/%3E/queue HTTP/1.1\r\nAuthorization: " + in, 404},
		{"a trace with a subject", "GET /api/v1/trace?q=%3E HTTP/1.1\r\nAuthorization: " + in, 200},
		// Numbers and lists.
		{"a number below 0", "GET /api/v1/dead?before=-1 HTTP/1.1\r\nAuthorization: " + in, 400},
		{"a number beyond all", "GET /api/v1/dead?before=99999999999999999999 HTTP/1.1\r\nAuthorization: " + in, 400},
		{"more than a page", "GET /api/v1/dead?limit=1000000 HTTP/1.1\r\nAuthorization: " + in, 400},
		{"a parameter twice", "GET /api/v1/things?q=a&q=b HTTP/1.1\r\nAuthorization: " + in, 400},
		// The wire.
		{"two lengths", "POST /api/v1/session HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 9", 400},
		{"a length and chunks, for a proxy in front", "POST /api/v1/session HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0", 400},
		{"no HTTP", "CONNECT {\"verbose\":true}", 400},
		{"a header without end", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 1<<20), 431},
	} {
		answer, text := s.raw(c.request)
		if answer == nil {
			t.Errorf("%s: no answer: %s", c.name, text)
			continue
		}
		if bad := answer.StatusCode >= 500 || c.code == 0 && answer.StatusCode == http.StatusOK || c.code != 0 && answer.StatusCode != c.code; bad {
			t.Errorf("%s: %d, not %d: %s", c.name, answer.StatusCode, c.code, text)
		}
		if strings.Contains(text, "<script") || answer.Header.Get("Set-Cookie") != "" || answer.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v %s", c.name, answer.Header, text)
		}
	}
	for _, ids := range []string{`{"ids":[]}`, `{"ids":[-1]}`, `{"ids":["1"]}`, `{"ids":[1e99]}`, `{"ids":[` + strings.Repeat("1,", 1001) + `1]}`, `{"ids":null}`, `{"id":1}`, strings.Repeat("[", 10_000)} {
		if code, text := s.call(s.token, "POST", base+"dead/discard", ids); code != http.StatusBadRequest {
			t.Errorf("%.40s: %d %s", ids, code, text)
		}
	}
}

// raw sends a request as it is, with the host if it has none, and reads one answer; nil: there is none.
func (s *site) raw(request string) (*http.Response, string) {
	s.t.Helper()
	host := strings.TrimPrefix(s.url, "http://")
	nc, err := net.Dial("tcp", host)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	if end, ok := s.context().Deadline(); ok {
		_ = nc.SetDeadline(end)
	}
	if !strings.Contains(request, "Host: ") {
		first, rest, _ := strings.Cut(request, "\r\n")
		request = strings.TrimSuffix(first+"\r\nHost: "+host+"\r\n"+rest, "\r\n")
	}
	if !strings.Contains(request, "Content-Length") {
		request += "\r\nContent-Length: 0"
	}
	go func() { _, _ = fmt.Fprintf(nc, "%s\r\nConnection: close\r\n\r\n", request) }() // the answer may come before it has all
	answer, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		return nil, err.Error()
	}
	defer func() { _ = answer.Body.Close() }()
	text, _ := io.ReadAll(answer.Body)
	return answer, string(text)
}
