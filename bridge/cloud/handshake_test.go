package cloud

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestEndlessHandshake: a server that takes the connection and whose answer has no end costs no memory for it. The WebSocket
// library would read headers, and lines, as long as some come.
func TestEndlessHandshake(t *testing.T) {
	for name, c := range map[string]struct{ begin, again string }{
		"headers":      {"HTTP/1.1 101 Switching Protocols\r\n", "X: y\r\n"},
		"one header":   {"HTTP/1.1 101 Switching Protocols\r\nX: ", "y"},
		"a status":     {"HTTP/1.1 ", "1"},
		"intermediate": {"", "HTTP/1.1 100 Continue\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			taken := make(chan int64, 1)
			go func() {
				c2, err := l.Accept()
				if err != nil {
					return
				}
				defer c2.Close()
				n, _ := io.WriteString(c2, c.begin)
				rest, _ := io.Copy(c2, &endless{text: bytes.Repeat([]byte(c.again), 1000)})
				taken <- int64(n) + rest
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			raw, err := Dial(ctx, &url.URL{Scheme: "ws", Host: l.Addr().String()}, nil)
			if err == nil {
				_ = raw.Close()
			}
			if name != "intermediate" && !errors.Is(err, errLongHandshake) || err == nil {
				t.Errorf("%.200v", err)
			}
			if got := <-taken; got > 32<<20 { // what the system holds for both sides is less
				t.Errorf("%d bytes were taken", got)
			}
		})
	}
}

// TestWordyHandshake: what a server says in its answer makes no error without an end.
func TestWordyHandshake(t *testing.T) {
	for name, answer := range map[string]string{
		"a status":      "HTTP/1.1 403 " + strings.Repeat("x", 500_000) + "\r\n\r\n",
		"no status":     "HTTP/1.1 " + strings.Repeat("1", 500_000) + "\r\n\r\n",
		"a place":       "HTTP/1.1 302 Found\r\nLocation: http://" + strings.Repeat("x", 500_000) + "\r\n\r\n",
		"a strange one": strings.Repeat("x", 500_000) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				if c, err := l.Accept(); err == nil {
					_, _ = io.WriteString(c, answer)
					_ = c.Close() // else the library waits for a body
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err = Dial(ctx, &url.URL{Scheme: "ws", Host: l.Addr().String()}, nil)
			if err == nil || len(err.Error()) > 1000 {
				t.Errorf("%.100v…", err)
			}
		})
	}
}

// endless says the same for ever, up to an amount that fails the test.
type endless struct {
	text []byte
	n    int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.n > 64<<20 {
		return 0, io.EOF
	}
	n := copy(p, e.text[e.n%len(e.text):])
	e.n += n
	return n, nil
}
