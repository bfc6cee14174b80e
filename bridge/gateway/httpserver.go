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
