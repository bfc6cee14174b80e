package console

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"fleetbridge/bridge/gateway"
)

// hardened are the headers that every answer must have.
var hardened = map[string]string{
	"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
	"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": "",
}

// path fills in the parts of an endpoint's path.
func (e endpoint) filled() string {
	return base + strings.NewReplacer("{t}", "pump-07", "{id}", "1", "{channel}", "event").Replace(e.path)
}

// Each endpoint lets in who may come, and nobody else. What changes something is a POST with an action.
func TestAccess(t *testing.T) {
	s := open(t, func(c *gateway.Config) { c.Console.Actions = nil })
	looker := s.login(false)
	forged := looker[:len(looker)-1] + "A"
	if forged == looker {
		forged = looker[:len(looker)-1] + "B"
	}
	raised := strings.Replace(looker, ".viewer.", ".operator.", 1)
	for _, e := range endpoints {
		if e.role == nobody {
			if e.path != "session" {
				t.Errorf("%s %s lets everybody in", e.method, e.path)
			}
		} else if (e.action != "" && e.role < operator) || (e.action == "") != (e.method == "GET" || e.path == "validate") {
			t.Errorf("%s %s: role %s, action %q", e.method, e.path, e.role, e.action)
		}
		for _, c := range []struct {
			name, token string
			code        int
			header      []string
		}{
			{"without a token", "", 401, nil},
			{"with a forged token", forged, 401, nil},
			{"with a token of a role that it does not have", raised, 401, nil},
			{"under another name", s.token, 421, []string{"Host", "gateway.evil.example"}},
			{"from another site", s.token, 403, []string{"Sec-Fetch-Site", "cross-site"}},
			{"from another port of this machine", s.token, 403, []string{"Sec-Fetch-Site", "same-site"}},
			{"with a parameter that there is not", s.token, 400, nil},
		} {
			if e.role == nobody && c.code == 401 {
				continue
			}
			path := e.filled()
			if c.code == 400 {
				path += "?no-such=1"
			}
			if c.code == 400 && e.action != "" {
				continue // off, see below
			}
			answer := s.do(c.token, e.method, path, nil, c.header...)
			_ = answer.Body.Close()
			if answer.StatusCode != c.code {
				t.Errorf("%s %s %s: %d, not %d", e.method, e.path, c.name, answer.StatusCode, c.code)
			}
			for name, want := range hardened {
				if got := answer.Header.Get(name); got != want {
					t.Errorf("%s %s %s: %s is %q", e.method, e.path, c.name, name, got)
				}
			}
		}
		if e.role == operator {
			if code, _ := s.call(looker, e.method, e.filled(), nil); code != http.StatusForbidden {
				t.Errorf("%s %s for a viewer: %d", e.method, e.path, code)
			}
		}
		if e.action != "" {
			if code, text := s.call(s.token, e.method, e.filled(), nil); code != http.StatusForbidden || !strings.Contains(text, "console.actions") {
				t.Errorf("%s %s, which is off: %d %s", e.method, e.path, code, text)
			}
		}
		if e.method != "GET" && e.role != nobody {
			if code, _ := s.call(s.token, "GET", e.filled(), nil); code != http.StatusNotFound && !slices.ContainsFunc(endpoints, func(o endpoint) bool { return o.method == "GET" && o.path == e.path }) {
				t.Errorf("GET %s: %d", e.path, code)
			}
		}
	}
	if code, _ := s.call("", "GET", "/api/v1/../v1/overview", nil); code == http.StatusOK {
		t.Error("there is a way around")
	}
}

// The files of the page have a type, a tag and the same headers, and nothing beside them is served.
func TestFiles(t *testing.T) {
	s := open(t, nil)
	for path, want := range map[string]int{"/": 200, "/index.html": 200, "/nothing": 404, "/../console.go": 404, "/web": 404, "/api": 404} {
		answer := s.do("", "GET", path, nil)
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %d", path, answer.StatusCode)
		}
		for name, want := range hardened {
			if got := answer.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if tag := answer.Header.Get("ETag"); want == 200 {
			again := s.do("", "GET", path, nil, "If-None-Match", tag)
			_ = again.Body.Close()
			for _, coding := range []string{"gzip", "identity"} {
				in := s.do("", "GET", path, nil, "Accept-Encoding", coding)
				text, err := io.ReadAll(in.Body)
				_ = in.Body.Close()
				if packed := bytes.HasPrefix(text, []byte{0x1f, 0x8b}); err != nil || in.ContentLength == 0 || packed != (coding == "gzip") || packed != (in.Header.Get("Content-Encoding") == "gzip") {
					t.Errorf("%s as %s: %q of %d bytes, %v", path, coding, in.Header.Get("Content-Encoding"), len(text), err)
				}
			}
			if tag == "" || again.StatusCode != http.StatusNotModified {
				t.Errorf("%s with tag %s: %d", path, tag, again.StatusCode)
			}
		}
	}
	for _, method := range []string{"POST", "DELETE"} {
		if code, _ := s.call("", method, "/", nil); code != http.StatusMethodNotAllowed {
			t.Errorf("%s /: %d", method, code)
		}
	}
	if code, _ := s.call("", "POST", "/", nil, "Origin", "http://evil.example"); code != http.StatusForbidden {
		t.Errorf("a POST of another site: %d", code)
	}
}

// A browser may come under an address, localhost, and the names of console.hosts.
func TestHosts(t *testing.T) {
	s := open(t, func(c *gateway.Config) { c.Console.Hosts = []string{"GW.example.lan"} })
	for host, want := range map[string]int{
		"127.0.0.1:9322": 200, "localhost:1": 200, "LOCALHOST": 200, "a.localhost:80": 200, "[::1]:9322": 200, "10.1.2.3": 200, "gw.example.lan:9322": 200, "gw.example.lan.": 200,
		"example.lan": 421, "xgw.example.lan": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421,
	} {
		code, text := s.call("", "GET", "/", nil, "Host", host)
		if code != want || code != 200 && !strings.Contains(text, "console.hosts") {
			t.Errorf("%s: %d %s", host, code, text)
		}
	}
}

func TestLargeRequest(t *testing.T) {
	s := open(t, nil)
	code, text := s.call("", "POST", base+"session", `{"link":"`+strings.Repeat("x", 1<<20)+`"}`)
	if code != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %s", code, text)
	}
	for _, body := range []string{"", "[]", `{"link":1}`, `{"link":"x","more":1}`, `{"link":"x"} {}`} {
		if code, text := s.call("", "POST", base+"session", body); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", body, code, text)
		}
	}
}

// A service worker that somebody else has left in a browser, when he had the port, is asked for here, and ends itself.
func TestForeignServiceWorker(t *testing.T) {
	s := open(t, nil)
	for _, path := range []string{"/sw.js", "/", base + "overview"} {
		if code, text := s.call("", "GET", path, nil, "Service-Worker", "script"); code != http.StatusOK || !strings.Contains(text, "unregister()") {
			t.Errorf("%s: %d %.80s", path, code, text)
		}
	}
}
