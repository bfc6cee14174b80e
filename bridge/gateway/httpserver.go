package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxHTTPConns is how many connections the pages are served on at a time. One more closes the connection that has been idle
// for longest. So anybody on the machine may ask, nobody can use up the process's open files, and a new request is always
// answered.
const maxHTTPConns = 64

// newHTTPServer serves h to anybody who can reach the port, and bounds what they can take.
func newHTTPServer(h http.Handler) *http.Server { return newServer(http.MaxBytesHandler(h, 1<<10)) }

// newServer is newHTTPServer for a handler that bounds the size of requests itself.
func newServer(h http.Handler) *http.Server {
	v := &visitors{open: map[net.Conn]*visitor{}, left: make(chan struct{}, 1)}
	return &http.Server{
		Handler: v.answering(h), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ConnState: v.changed,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, visitorKey{}, visit{v, c})
		},
	}
}

// answerPatience is how long a request keeps its connection from being closed; every page is made in less.
const answerPatience = time.Second

// returns is within which time the console's page asks again, on the same connection.
const returns = 10 * time.Second

// Known says that the sender of the request with this context has logged in. His connection is not closed in favour of a new
// one while the request is being answered, which takes long for a tail.
func Known(ctx context.Context) {
	if of, ok := ctx.Value(visitorKey{}).(visit); ok {
		of.visitors.note(of.conn, func(a *visitor) { a.known = true })
	}
}

// visitors are the open connections of an HTTP server.
type visitors struct {
	mu   sync.Mutex
	open map[net.Conn]*visitor
	left chan struct{} // one has ended
}

// visitor is one connection.
type visitor struct {
	seen   time.Time // when it came, or its last request began or was answered
	served bool      // a request of it is being answered
	known  bool      // the last request was from somebody who has logged in
}

// visit is the value that a request's context has for its connection.
type visit struct {
	visitors *visitors
	conn     net.Conn
}

type visitorKey struct{}

// changed is the server's ConnState. The server calls it for a new connection before it accepts the next one.
func (v *visitors) changed(c net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		v.makeRoom()
		v.mu.Lock()
		v.open[c] = &visitor{seen: time.Now()}
		v.mu.Unlock()
	case http.StateClosed, http.StateHijacked:
		v.mu.Lock()
		delete(v.open, c)
		v.mu.Unlock()
		select {
		case v.left <- struct{}{}:
		default:
		}
	}
}

// leastVisit is how long a connection stays at least, so that it can be used. New ones wait for it.
const leastVisit = 50 * time.Millisecond

// makeRoom closes connections, or waits for one that ends, until there is room for one more.
func (v *visitors) makeRoom() {
	for {
		wait := v.dismiss(time.Now())
		if wait <= 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-v.left:
		}
		timer.Stop()
	}
}

// dismiss closes the connection that has been idle for longest, if there is no room. It returns how long to wait before that
// one may be closed; 0: there is room.
func (v *visitors) dismiss(now time.Time) time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.open) < maxHTTPConns {
		return 0
	}
	var conn net.Conn
	for c := range v.open {
		if conn == nil || v.open[c].before(v.open[conn], now) {
			conn = c
		}
	}
	if stays := leastVisit - now.Sub(v.open[conn].seen); stays > 0 {
		return stays
	}
	delete(v.open, conn)
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn() // without a farewell, which may wait for who does not read
	}
	_ = conn.Close()
	return 0
}

// before reports whether a is closed before b.
func (a *visitor) before(b *visitor, now time.Time) bool {
	return cmp.Or(cmp.Compare(a.claim(now), b.claim(now)), a.seen.Compare(b.seen)) < 0
}

// claim is how important it is to keep the connection; the least is closed first.
func (a *visitor) claim(now time.Time) int {
	switch {
	case a.served && a.known:
		return 2
	case a.served && now.Sub(a.seen) < answerPatience, a.known && now.Sub(a.seen) < returns:
		return 1
	}
	return 0
}

// answering notes which connections are being answered.
func (v *visitors) answering(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		of, _ := r.Context().Value(visitorKey{}).(visit)
		v.note(of.conn, func(a *visitor) { a.served, a.known = true, false })
		defer v.note(of.conn, func(a *visitor) { a.served = false })
		h.ServeHTTP(w, r)
	})
}

// note changes what is known of a connection that is open.
func (v *visitors) note(c net.Conn, change func(*visitor)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if a := v.open[c]; a != nil {
		a.seen = time.Now()
		change(a)
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
