package cloud

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

func api(t *testing.T, h http.HandlerFunc, path string) *API {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	a := NewAPI(APIConfig{URL: u, Key: "ak_1", Secret: "hunter2"})
	t.Cleanup(a.Close)
	return a
}

func TestShadowRequest(t *testing.T) {
	for name, want := range map[string]string{
		"pump-07":    "/api/v1/thing-datas/pump-07/shadow",
		"..":         "/api/v1/thing-datas/%2E%2E/shadow",
		".":          "/api/v1/thing-datas/%2E/shadow",
		"a b%?ü":     "/api/v1/thing-datas/a%20b%25%3F%C3%BC/shadow",
		"a:b;c,d=&@": "/api/v1/thing-datas/a:b%3Bc%2Cd=&@/shadow",
		"%2F":        "/api/v1/thing-datas/%252F/shadow",
	} {
		for _, prefix := range []string{"", "/", "/fleets%2F1/"} {
			var got *http.Request
			a := api(t, func(w http.ResponseWriter, r *http.Request) {
				got = r
				_, _ = w.Write([]byte(" {\"version\": 12345678901234567890}\n"))
			}, prefix)
			body, err := a.Shadow(t.Context(), mapping.Thing(name))
			if err != nil {
				t.Fatal(err)
			}
			same(t, "body", string(body), " {\"version\": 12345678901234567890}\n")
			same(t, "path", got.RequestURI, strings.TrimRight(prefix, "/")+want)
			key, secret, _ := got.BasicAuth()
			same(t, "authorization", key+":"+secret, "ak_1:hunter2")
			same(t, "accept", got.Header.Get("Accept"), "application/json")
		}
	}
}

func TestShadowErrors(t *testing.T) {
	for _, c := range []struct {
		name     string
		status   int
		body     string
		want     string
		notFound bool
	}{
		{"unknown", 404, `{"detail":"x"}`, `thing "pump-07" is not registered in Fleets`, true},
		{"key", 401, "", `check fleets.api_key and its secret; the key needs the permission "GET /api/v1/thing-datas"`, false},
		{"permission", 403, `{"message":"no prefix matches"}`, `"GET /api/v1/thing-datas": no prefix matches`, false},
		{"problem", 500, `{"title":"T","detail":"disk\u0007 hunter2"}`, "HTTP status 500 Internal Server Error: disk  …", false},
		{"odd body", 429, `<html>`, "HTTP status 429 Too Many Requests", false},
		{"odd types", 409, `{"detail":7,"message":"m"}`, "HTTP status 409 Conflict: m", false},
		{"no JSON", 200, `<html>`, "no JSON object", false},
		{"array", 200, `[{}]`, "no JSON object", false},
		{"cut short", 200, `{"a":`, "no JSON object", false},
		{"empty", 200, ``, "no JSON object", false},
		{"too long", 200, `{"a":"` + strings.Repeat("x", maxDocument) + `"}`, "larger than 1048576 bytes", false},
		{"long text", 500, `{"detail":"` + strings.Repeat("x", 10000) + `"}`, "xxx…", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := api(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}, "")
			_, err := a.Shadow(t.Context(), thing)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %s", err, c.want)
			}
			same(t, "ErrNotFound", errors.Is(err, bridge.ErrNotFound), c.notFound)
			if strings.Contains(err.Error(), "hunter2") || len(err.Error()) > 500 {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestThingTypeRequest(t *testing.T) {
	var got string
	a := api(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.RequestURI
		_, _ = w.Write([]byte(`{"name":"com.acme.pump"}`))
	}, "/fleets")
	for name, want := range map[string]string{"com.acme.pump": "com.acme.pump", "..": "%2E%2E", "a/b %?": "a%2Fb%20%25%3F"} {
		body, err := a.ThingType(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "body", string(body), `{"name":"com.acme.pump"}`)
		same(t, "path", got, "/fleets/api/v1/thing-types/"+want)
	}
}

func TestThingTypeErrors(t *testing.T) {
	for _, c := range []struct {
		status     int
		body, want string
	}{
		{404, `{"detail":"none"}`, `Thing Type "pump" is not in Fleets, or fleets.url is not the API endpoint, or this Fleets does not have the operation GET /api/v1/thing-types/{name}: none`},
		{401, "", `check fleets.api_key and its secret; the key needs the permission "GET /api/v1/thing-types"`},
		{403, "", `HTTP status 403: check fleets.api_key and its secret; the key needs the permission "GET /api/v1/thing-types"`},
		{500, `{"title":"T","detail":"disk\u0007 hunter2"}`, `Thing Type "pump": HTTP status 500 Internal Server Error: disk  …`},
		{200, `<html><title>Log in</title>`, `Thing Type "pump": the answer is no JSON object but text/html, a page called "Log in"`},
		{200, `{"a":"` + strings.Repeat("x", maxDocument) + `"}`, `Thing Type "pump": larger than 1048576 bytes`},
	} {
		a := api(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		}, "")
		_, err := a.ThingType(t.Context(), "pump")
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%d: error %v, want %s", c.status, err, c.want)
		}
		same(t, "ErrNotFound", errors.Is(err, bridge.ErrNotFound), c.status == 404)
	}
}

func TestRedirects(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the key was carried to another host")
	}))
	defer elsewhere.Close()
	a := api(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/x", http.StatusTemporaryRedirect)
	}, "")
	_, err := a.Shadow(t.Context(), thing)
	if err == nil || !strings.Contains(err.Error(), "set fleets.url to it if that is right") {
		t.Errorf("error %v", err)
	}
	a = api(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/there" {
			_, _ = w.Write([]byte("{}"))
			return
		}
		http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
	}, "")
	if _, err := a.Shadow(t.Context(), thing); err != nil {
		t.Errorf("within the host: %v", err)
	}
	a = api(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/loop", http.StatusTemporaryRedirect)
	}, "")
	if _, err := a.Shadow(t.Context(), thing); err == nil || !strings.Contains(err.Error(), "loop") {
		t.Errorf("in a loop: %v", err)
	}
}

// TestWordyAPI: what a server says to a login, or instead of an answer, is no way to the log and the programs for the login,
// nor for much text.
func TestWordyAPI(t *testing.T) {
	const key, secret = "ak_1", "a secret of some length"
	login := base64.StdEncoding.EncodeToString([]byte(key + ":" + secret))
	long := strings.Repeat("z", 50_000)
	for name, c := range map[string]struct{ answer, want string }{
		"an error with the request":    {"500 X\r\n\r\n{\"detail\":\"Authorization: Basic " + login + "\"}", "HTTP status 500 Internal Server Error: Authorization: Basic …"},
		"a document with the login":    {"200 OK\r\n\r\n{\"error\":\"Basic " + login + "\"}", "it is not passed on"},
		"a document with the secret":   {"200 OK\r\n\r\n{\"reported\":{\"a\":\"" + secret + "\"}}", "it is not passed on"},
		"a page":                       {"200 OK\r\nContent-Type: " + key + "\r\n\r\n<title>" + secret + "</title>", "no JSON object but …, a page called \"…\""},
		"a header that is none":        {"200 OK\r\nBasic " + login + "\r\n\r\n", "malformed MIME header"},
		"an encoding":                  {"200 OK\r\nTransfer-Encoding: " + login + "\r\n\r\n", "unsupported transfer encoding"},
		"a redirect to a long path":    {"302 X\r\nLocation: /" + long + "\r\n\r\n", "it redirects in a loop"},
		"a redirect to a long host":    {"302 X\r\nLocation: http://" + long + "/\r\n\r\n", "set fleets.url to it if that is right"},
		"a redirect with control text": {"302 X\r\nLocation: http://a\xc2\x9b\xe2\x80\xaeb/\r\n\r\n", "it redirects to http://a  b,"},
		"a long line":                  {"200 OK\r\n" + long + "\r\n\r\n", "malformed MIME header"},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse("http://" + speak(t, "HTTP/1.1 "+c.answer))
			if err != nil {
				t.Fatal(err)
			}
			a := NewAPI(APIConfig{URL: u, Key: key, Secret: secret})
			defer a.Close()
			_, err = a.Shadow(t.Context(), thing)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %.2000v", err)
			}
			if text := err.Error(); strings.Contains(text, login) || strings.Contains(text, secret) || len(text) > 4*1300 {
				t.Errorf("an error of %d bytes: %.2000s", len(text), text)
			}
		})
	}
}

// speak answers each request with these bytes and closes the connection.
func speak(t *testing.T, answer string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.WriteString(c, answer)
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestShadowTimeout(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	a := api(t, func(http.ResponseWriter, *http.Request) { <-release }, "")
	a.timeout = 20 * time.Millisecond
	_, err := a.Shadow(t.Context(), thing)
	if err == nil || !strings.Contains(err.Error(), "no answer within 20ms") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Shadow(ctx, thing); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestShadowTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // a handshake fails on purpose
	server.StartTLS()
	defer server.Close()
	u, _ := url.Parse(server.URL)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	a := NewAPI(APIConfig{URL: u, TLS: func() (*tls.Config, error) { return &tls.Config{RootCAs: roots}, nil }})
	defer a.Close()
	if _, err := a.Shadow(t.Context(), thing); err != nil {
		t.Error(err)
	}
	strangers := NewAPI(APIConfig{URL: u})
	defer strangers.Close()
	if _, err := strangers.Shadow(t.Context(), thing); err == nil {
		t.Error("an unknown certificate was trusted")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 5, 27, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		after, date string
		want        time.Duration
	}{
		{"120", "", 2 * time.Minute}, {" 7 ", "", 7 * time.Second}, {"0.5", "", 500 * time.Millisecond},
		{"999999999999999999999999", "", retryAfterMax}, {"-5", "", 0}, {"0", "", 0}, {"NaN", "", 0}, {"Inf", "", retryAfterMax}, {"soon", "", 0}, {"", "", 0},
		{"Wed, 27 May 2026 10:01:00 GMT", "", time.Minute},
		{"Wed, 27 May 2026 12:01:00 GMT", "Wed, 27 May 2026 12:00:00 GMT", time.Minute}, // our clock is two hours late
		{"Wed, 27 May 2026 09:00:00 GMT", "", 0},
		{"Sun, 27 May 2096 09:00:00 GMT", "", retryAfterMax},
	} {
		h := http.Header{}
		h.Set("Retry-After", c.after)
		h.Set("Date", c.date)
		if got := retryAfter(h, now); got != c.want {
			t.Errorf("Retry-After %q, Date %q: %s, want %s", c.after, c.date, got, c.want)
		}
	}
}

// What asks for a pause is left alone until that is over, for every Thing; what only fails is not.
func TestPauseOfTheAPI(t *testing.T) {
	asked, status, after := 0, 429, "30"
	a := api(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("Retry-After", after)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"message":"slow down","version":1,"reported":{}}`))
	}, "")
	later := (*bridge.RetryLater)(nil)
	for _, c := range []struct {
		status int
		after  string
		pauses bool
	}{{429, "30", true}, {503, "30", true}, {503, "", false}, {500, "30", false}, {404, "30", false}, {200, "30", false}} {
		status, after, asked, a.later = c.status, c.after, 0, nil
		_, first := a.Shadow(t.Context(), thing)
		_, second := a.Shadow(t.Context(), "another")
		if got := asked == 1 && errors.As(first, &later) && errors.As(second, &later) && later.After > 20*time.Second; got != c.pauses {
			t.Errorf("%d, %q: asked %d times, %v, %v", c.status, c.after, asked, first, second)
		}
	}
	status, after = 429, "30"
	_, _ = a.Shadow(t.Context(), thing)
	a.later.over = time.Now().Add(-time.Second)
	status = 200
	if _, err := a.Shadow(t.Context(), thing); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

// A captive portal is quoted, and its page forges nothing.
func TestCaptivePortal(t *testing.T) {
	for body, want := range map[string]string{
		`<html><head><TITLE>Hotel\nWLAN: log in</TITLE></head></html>`: `but text/html, a page called "Hotel\nWLAN: log in"`,
		"<html><title>a\x1b[2J\nlevel=INFO</title>":                    `a page called "a [2J level=INFO"`,
		`<html>`: "no JSON object but text/html; ",
	} {
		a := api(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write([]byte(body))
		}, "")
		if _, err := a.Shadow(t.Context(), thing); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

func TestClockOfTheAPI(t *testing.T) {
	date := "Wed, 27 May 2026 10:00:00 GMT"
	var theirs time.Time
	a := api(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"] = []string{date}
		_, _ = w.Write([]byte(`{"reported":{}}`))
	}, "")
	a.clock = func(t, _ time.Time) { theirs = t }
	_, _ = a.Shadow(t.Context(), thing)
	if want := time.Date(2026, 5, 27, 10, 0, 0, 5e8, time.UTC); !theirs.Equal(want) {
		t.Errorf("%v, want %v", theirs, want)
	}
	date, theirs = "yesterday", time.Time{}
	if _, err := a.Shadow(t.Context(), thing); err != nil || !theirs.IsZero() {
		t.Errorf("%v, %v", theirs, err)
	}
}

// Without a login, or with a short one, no document is taken for one that has it.
func TestDocumentWithoutALogin(t *testing.T) {
	const document = `{"desired":{"a":"b:c"}}`
	for _, login := range [][2]string{{"", ""}, {"b", "c"}} {
		u, err := url.Parse("http://" + speak(t, "HTTP/1.1 200 OK\r\n\r\n"+document))
		if err != nil {
			t.Fatal(err)
		}
		a := NewAPI(APIConfig{URL: u, Key: login[0], Secret: login[1]})
		defer a.Close()
		if got, err := a.Shadow(t.Context(), thing); err != nil || string(got) != document {
			t.Errorf("with the login %q: %s, error %v", login, got, err)
		}
	}
}
