package cloud

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// mochiBroker is a broker in process, reached by every scheme.
type mochiBroker struct {
	*mochi.Server
	urls  map[string]*url.URL
	roots *x509.CertPool
}

// allow lets everybody do everything.
type allow struct{ mochi.HookBase }

func (*allow) ID() string { return "allow" }

func (*allow) Provides(b byte) bool { return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck }

func (*allow) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

func (*allow) OnACLCheck(*mochi.Client, string, bool) bool { return true }

func startMochi(t *testing.T) *mochiBroker {
	t.Helper()
	b := &mochiBroker{
		Server: mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)}),
		urls:   map[string]*url.URL{}, roots: x509.NewCertPool(),
	}
	if err := b.AddHook(new(allow), nil); err != nil {
		t.Fatal(err)
	}
	web := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upgrader := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil || ws.Subprotocol() != "mqtt" || r.URL.Path != "/mqtt" {
			t.Errorf("WebSocket at %s: subprotocol %q, %v", r.URL.Path, ws.Subprotocol(), err)
			return
		}
		_ = b.EstablishConnection("ws", serverConn{&wsConn{Conn: ws}})
	})
	ws, wss := httptest.NewServer(web), httptest.NewTLSServer(web)
	t.Cleanup(ws.Close)
	t.Cleanup(wss.Close)
	b.roots.AddCert(wss.Certificate())
	plain := listen(t)
	secure := tls.NewListener(listen(t), &tls.Config{Certificates: wss.TLS.Certificates})
	for scheme, l := range map[string]net.Listener{"mqtt": plain, "mqtts": secure} {
		if err := b.AddListener(listeners.NewNet(scheme, l)); err != nil {
			t.Fatal(err)
		}
	}
	for scheme, address := range map[string]string{
		"mqtt": plain.Addr().String(), "mqtts": secure.Addr().String(),
		"ws": ws.Listener.Addr().String(), "wss": wss.Listener.Addr().String(),
	} {
		b.urls[scheme] = &url.URL{Scheme: scheme, Host: address}
	}
	if err := b.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// serverConn lets the broker move deadlines while another goroutine of its writes.
type serverConn struct{ *wsConn }

func (c serverConn) SetDeadline(t time.Time) error { return c.NetConn().SetDeadline(t) }

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// run starts a session and ends it with the test.
func run(t testing.TB, cfg Config, hooks Hooks, log *slog.Logger) *Session {
	t.Helper()
	s := NewSession(thing, cfg, hooks, log)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return s
}

// TestRoundTrip goes through a real broker by every scheme, with large payloads.
func TestRoundTrip(t *testing.T) {
	b := startMochi(t)
	for _, scheme := range []string{"mqtt", "mqtts", "ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			log := &records{}
			ready := make(chan struct{}, 10)
			s := run(t, Config{
				Servers: []*url.URL{b.urls[scheme]}, TLS: func() (*tls.Config, error) { return &tls.Config{RootCAs: b.roots}, nil }, ClientID: "pump-" + scheme,
			}, Hooks{Ready: func(context.Context, bool) { ready <- struct{}{} }}, slog.New(log))
			await(t, ctx, ready)

			const n = 500
			arrived := make(chan string, n)
			filter := "$emqx/things/pump-07/events/+"
			if err := b.Subscribe(filter, 1, func(_ *mochi.Client, _ packets.Subscription, p packets.Packet) {
				arrived <- string(p.Payload)
			}); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = b.Unsubscribe(filter, 1) }()
			acked := make(chan error, n)
			for i := range n {
				if err := s.Send(ctx, event(large(i)), func(err error) { acked <- err }); err != nil {
					t.Fatal(err)
				}
			}
			for i := range n {
				if err := await(t, ctx, acked); err != nil {
					t.Fatal(err)
				}
				same(t, "arrived", await(t, ctx, arrived) == large(i), true)
			}
			for i := range n / 5 {
				if err := b.Publish(notify, []byte(large(i)), false, 1); err != nil {
					t.Fatal(err)
				}
				d := one(t, ctx, s)
				same(t, "delivered", string(d.Payload) == large(i), true)
				d.Settle()
				// This broker can lock itself up when it publishes while it takes an acknowledgement.
				for client, _ := b.Clients.Get("pump-" + scheme); client.State.Inflight.Len() > 0 && ctx.Err() == nil; {
					runtime.Gosched()
				}
			}
			same(t, "warnings", log.count("WARN"), 0)
		})
	}
}

// large makes every hundredth payload 100 KiB.
func large(i int) string {
	if i%100 == 0 {
		return strconv.Itoa(i) + strings.Repeat("x", 100<<10)
	}
	return strconv.Itoa(i)
}

func await[T any](t testing.TB, ctx context.Context, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-ctx.Done():
		t.Fatal("nothing came in time")
	}
	return v
}

func TestDialErrors(t *testing.T) {
	b := startMochi(t)
	const closed = "127.0.0.1:1"
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for want, u := range map[string]string{
		"connection refused":                    "mqtt://" + closed,
		"certificate signed by unknown":         b.urls["mqtts"].String(),
		"bad handshake: HTTP status 404":        "ws://" + plain.Listener.Addr().String(),
		"use mqtt, mqtts, ws or wss":            "http://user:hunter2@localhost",
		"cannot connect: mqtt://user:xxxxx@127": "mqtt://user:hunter2@" + closed,
	} {
		target, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		states := make(chan State, 10)
		s := run(t, Config{Servers: []*url.URL{target}, ClientID: "c"}, Hooks{State: func(s State) { states <- s }}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		await(t, ctx, states)
		cancel()
		if got := s.State().LastError; !strings.Contains(got, want) || strings.Contains(got, "hunter2") {
			t.Errorf("%s: %q, want %q", u, got, want)
		}
	}
}

// freeBroker acknowledges everything at no cost: it looks at as few bytes as it can.
func freeBroker(b *testing.B, downstream []byte) *url.URL {
	l := listen(b)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveFree(c, downstream)
		}
	}()
	return &url.URL{Scheme: "mqtt", Host: l.Addr().String()}
}

func serveFree(c net.Conn, downstream []byte) {
	defer c.Close()
	in := make([]byte, 256<<10)
	var out []byte
	have := 0
	for {
		n, err := c.Read(in[have:])
		if err != nil {
			return
		}
		have += n
		b := in[:have]
		out = out[:0]
		for len(b) > 2 {
			size, digits := int(b[1]&0x7F), 1
			if b[1]&0x80 != 0 {
				size, digits = size|int(b[2])<<7, 2
			}
			if len(b) < 1+digits+size {
				break
			}
			body := b[1+digits : 1+digits+size]
			switch b[0] {
			case 0x10:
				out = append(out, 0x20, 3, 0, 0, 0)
			case 0x82:
				out = append(append(out, 0x90, 16, body[0], body[1], 0), make([]byte, 13)...)
				go func() {
					for len(downstream) > 0 {
						if _, err := c.Write(downstream); err != nil {
							return
						}
					}
				}()
			case 0x32:
				topic := int(body[0])<<8 | int(body[1])
				out = append(out, 0x40, 2, body[2+topic], body[3+topic])
			}
			b = b[1+digits+size:]
		}
		have = copy(in, b)
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := run(b, Config{Servers: []*url.URL{freeBroker(b, nil)}, ClientID: "c"}, Hooks{}, slog.New(slog.DiscardHandler))
			m := event(strings.Repeat("x", size))
			acked := make(chan struct{}, 1<<16)
			done := func(error) { acked <- struct{}{} }
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				for range b.N {
					_ = s.Send(context.Background(), m, done)
				}
			}()
			for range b.N {
				<-acked
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// BenchmarkReceive lets the broker send as fast as it can, whatever Receive Maximum says.
func BenchmarkReceive(b *testing.B) {
	var burst []byte
	for id := range uint16(1000) {
		burst = appendVarint(append(burst, 0x32), 2+len(notify)+3+100)
		burst = appendString(burst, notify)
		burst = append(burst, byte((id+1)>>8), byte(id+1), 0)
		burst = append(burst, strings.Repeat("x", 100)...)
	}
	s := run(b, Config{Servers: []*url.URL{freeBroker(b, burst)}, ClientID: "c"}, Hooks{}, slog.New(slog.DiscardHandler))
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		for _, d := range s.Take(b.Context()) {
			d.Settle()
			n++
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
