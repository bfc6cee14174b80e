package gateway

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxHTTPConns is how many connections the pages are served on at a time. For one more, the one that has waited
// longest without a request that is being answered is closed: anybody on the machine may ask, nobody shall use up
// the process's files, and who asks now whether the bridge is well gets his answer.
const maxHTTPConns = 64

// newHTTPServer serves h to anybody who can reach the port, however he behaves.
func newHTTPServer(h http.Handler) *http.Server {
	return newServer(http.MaxBytesHandler(h, 1<<10), answerPatience)
}

// newConsoleServer is newHTTPServer for what bounds its requests itself, and whose answers may go on for long.
func newConsoleServer(h http.Handler) *http.Server { return newServer(h, consolePatience) }

func newServer(h http.Handler, patience time.Duration) *http.Server {
	v := &visitors{open: map[net.Conn]*visitor{}, patience: patience}
	return &http.Server{
		Handler: v.answering(h), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ConnState: v.changed,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, visitorKey{}, c)
		},
	}
}

// answerPatience is how long a request keeps its connection from being closed; every page is made in less.
const answerPatience = time.Second

// consolePatience is the same for the console, of whose answers only a few go on for longer than a moment.
const consolePatience = 24 * time.Hour

// visitors are the open connections of an HTTP server.
type visitors struct {
	mu       sync.Mutex
	open     map[net.Conn]*visitor
	patience time.Duration
}

// visitor is one connection.
type visitor struct {
	seen   time.Time // when it came, or its last request began or was answered
	served bool      // a request of it is being answered
}

type visitorKey struct{}

// changed is the server's ConnState. The server calls it for a new connection before it accepts the next one.
func (v *visitors) changed(c net.Conn, s http.ConnState) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch s {
	case http.StateNew:
		for len(v.open) >= maxHTTPConns {
			v.dismissLocked()
		}
		v.open[c] = &visitor{seen: time.Now()}
	case http.StateClosed, http.StateHijacked:
		delete(v.open, c)
	}
}

// dismissLocked closes the one that has waited longest.
func (v *visitors) dismissLocked() {
	now := time.Now()
	var conn net.Conn
	for c := range v.open {
		if conn == nil || v.before(v.open[c], v.open[conn], now) {
			conn = c
		}
	}
	delete(v.open, conn)
	_ = conn.Close()
}

// before reports whether a is closed before b.
func (v *visitors) before(a, b *visitor, now time.Time) bool {
	if v.kept(a, now) != v.kept(b, now) {
		return v.kept(b, now)
	}
	return a.seen.Before(b.seen)
}

func (v *visitors) kept(a *visitor, now time.Time) bool {
	return a.served && now.Sub(a.seen) < v.patience
}

// answering notes which connections are being answered.
func (v *visitors) answering(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(visitorKey{}).(net.Conn)
		v.serve(c, true)
		defer v.serve(c, false)
		h.ServeHTTP(w, r)
	})
}

func (v *visitors) serve(c net.Conn, served bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if known := v.open[c]; known != nil {
		known.seen, known.served = time.Now(), served
	}
}

// URL is where somebody on this machine asks for the pages, without a slash at the end. A listener on all
// addresses is reached on loopback.
func (h HTTP) URL() string {
	host, port, err := net.SplitHostPort(h.Listen)
	if err != nil {
		return "http://" + h.Listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}
