package gateway

import (
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// maxHTTPConns is how many connections the pages are served on at a time. Those beyond are closed: anybody
// on the machine may ask, and nobody shall use up the process's files.
const maxHTTPConns = 256

// newHTTPServer serves h to anybody who can reach the port, however he behaves.
func newHTTPServer(h http.Handler) *http.Server {
	var open atomic.Int64
	return &http.Server{
		Handler: http.MaxBytesHandler(h, 1<<10), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ConnState: func(c net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				if open.Add(1) > maxHTTPConns {
					_ = c.Close()
				}
			case http.StateClosed:
				open.Add(-1)
			}
		},
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
