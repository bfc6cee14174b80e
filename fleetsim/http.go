package fleetsim

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// maxBody bounds an HTTP request's body.
const maxBody = 1 << 20

// HTTPFault makes the HTTP API fail. The first of its parts that is set decides.
type HTTPFault struct {
	Path   string        // only paths with this prefix; empty: all
	Times  int           // after so many requests the fault is over; 0: it stays
	Delay  time.Duration // answers come that much later; goes together with the others
	Down   bool          // connections are closed without an answer
	Status int           // this status with a problem document, as 401 or 503
	Body   []byte        // 200 with this body
}

// Request is one HTTP request as it came, whether it was carried out or not.
type Request struct {
	Method string
	Path   string // percent-encoded
	Body   []byte
	At     time.Time
}

// httpState is what the HTTP API remembers by itself.
type httpState struct {
	monitor
	fault    *HTTPFault
	left     int
	requests []Request
	dropped  int
}

// SetHTTPFault makes the HTTP API fail from now on; nil ends it.
func (s *Sim) SetHTTPFault(f *HTTPFault) {
	s.http.Lock()
	defer s.http.Unlock()
	s.http.fault = f
	if f != nil {
		s.http.left = f.Times
	}
}

// Requests lists the HTTP requests so far, oldest first.
func (s *Sim) Requests() []Request {
	s.http.Lock()
	defer s.http.Unlock()
	return append([]Request(nil), s.http.requests...)
}

// WaitRequests returns the requests of a method whose path has the prefix, once there are n or more.
func (s *Sim) WaitRequests(ctx context.Context, method, prefix string, n int) ([]Request, error) {
	return await(ctx, &s.http.monitor, fmt.Sprintf("%d requests %s %s", n, method, prefix), func() ([]Request, bool) {
		var out []Request
		for _, r := range s.http.requests {
			if r.Method == method && strings.HasPrefix(r.Path, prefix) {
				out = append(out, r)
			}
		}
		return out, len(out) >= n
	})
}

// HTTPURL is the base URL of the HTTP API, without a slash at its end.
func (s *Sim) HTTPURL() string {
	scheme := "http"
	if s.options.HTTPTLS != nil {
		scheme = "https"
	}
	return scheme + "://" + s.listener.Addr().String()
}

func (s *Sim) listenHTTP() error {
	address := s.options.HTTPListen
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("HTTP API: %w", err)
	}
	s.listener = l
	s.server = &http.Server{Handler: s.gate(s.routes()), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	return nil
}

func (s *Sim) serveHTTP(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = s.server.Close() })()
	l := s.listener
	if c := s.options.HTTPTLS; c != nil {
		l = tls.NewListener(l, c.server())
	}
	if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("HTTP API: %w", err)
	}
	return nil
}

// gate records the request, commits the fault, and checks the key.
func (s *Sim) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if foreign(r) {
			problem(w, &Refusal{Status: http.StatusForbidden, Message: "the request comes from a page of another site, or under a name that is not this machine's"})
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			problem(w, &Refusal{Status: http.StatusRequestEntityTooLarge, Message: err.Error()})
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if fault := s.record(r, body); fault != nil && fault.commit(w, r) {
			return
		}
		if !s.authorized(r) {
			w.Header().Set("WWW-Authenticate", `Basic realm="fleets"`)
			problem(w, &Refusal{Status: http.StatusUnauthorized, Message: "API key or secret is wrong"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// foreign reports whether a page of another site has a browser on this machine send a request, or one whose name leads
// here.
func foreign(r *http.Request) bool {
	if http.NewCrossOriginProtection().Check(r) != nil {
		return true
	}
	at, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if at == nil || !at.IP.IsLoopback() { // a container has any name
		return false
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]")
	}
	own, _ := os.Hostname()
	return net.ParseIP(host) == nil && host != "localhost" && !strings.HasSuffix(host, ".localhost") && !strings.EqualFold(host, own)
}

// record keeps the request and returns the fault that befalls it.
func (s *Sim) record(r *http.Request, body []byte) *HTTPFault {
	s.http.Lock()
	defer s.http.Unlock()
	entry := Request{Method: r.Method, Path: r.URL.EscapedPath(), Body: body, At: time.Now()}
	s.http.requests, s.http.dropped = bounded(append(s.http.requests, entry), s.options.Keep, s.http.dropped)
	s.http.notify()
	f := s.http.fault
	if f == nil || !strings.HasPrefix(entry.Path, f.Path) {
		return nil
	}
	if f.Times > 0 {
		if s.http.left--; s.http.left == 0 {
			s.http.fault = nil
		}
	}
	return f
}

// commit reports whether it has answered.
func (f *HTTPFault) commit(w http.ResponseWriter, r *http.Request) bool {
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
		}
	}
	switch {
	case f.Down:
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = c.Close()
		}
	case f.Status != 0:
		problem(w, &Refusal{Status: f.Status, Message: "fault"})
	case f.Body != nil:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(f.Body)
	default:
		return false
	}
	return true
}

func (s *Sim) authorized(r *http.Request) bool {
	if s.options.APIKey == "" && s.options.APISecret == "" {
		return true
	}
	key, secret, _ := r.BasicAuth()
	k := subtle.ConstantTimeCompare([]byte(key), []byte(s.options.APIKey))
	return k&subtle.ConstantTimeCompare([]byte(secret), []byte(s.options.APISecret)) == 1
}

// problem answers with a problem document, shaped as the cloud's HTTP framework shapes it.
func problem(w http.ResponseWriter, r *Refusal) {
	type detail struct {
		Message string `json:"message"`
	}
	body := struct {
		Title  string          `json:"title"`
		Status int             `json:"status"`
		Detail string          `json:"detail"`
		Errors []detail        `json:"errors,omitempty"`
		Code   string          `json:"code,omitempty"`
		State  *ExecutionState `json:"executionState,omitempty"`
	}{Title: http.StatusText(r.Status), Status: r.Status, Detail: r.Message, Code: r.Code, State: r.State}
	if r.Status == http.StatusUnprocessableEntity {
		body.Detail, body.Errors = "validation failed", []detail{{r.Message}}
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(r.Status)
	_, _ = w.Write(encode(body))
}
