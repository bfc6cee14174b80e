package cloud

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"
)

// TestNoTCPProbes: MQTT has its own keep-alive, and nothing else is sent on an idle link.
func TestNoTCPProbes(t *testing.T) {
	probes := func(c net.Conn) (on int) {
		raw, err := c.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) { on, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE) })
		if err != nil {
			t.Fatal(err)
		}
		return on
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upgrader := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
		if ws, err := upgrader.Upgrade(w, r, nil); err == nil {
			_ = ws.Close()
		}
	}))
	defer web.Close()
	for scheme, address := range map[string]string{"mqtt": listen(t).Addr().String(), "ws": web.Listener.Addr().String()} {
		c, err := dial(t.Context(), dialing{server: server{url: &url.URL{Scheme: scheme, Host: address}}, wire: &meter{}})
		if err != nil {
			t.Fatal(err)
		}
		if ws, ok := c.(*wsConn); ok {
			c = ws.NetConn()
		}
		same(t, scheme, probes(c.(*metered).Conn), 0)
		_ = c.Close()
	}
	c, err := newClient(nil).Transport.(*http.Transport).DialContext(t.Context(), "tcp", web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	same(t, "https", probes(c), 0)
}

// TestSmallSegments: neither side of such a connection sends large ones.
func TestSmallSegments(t *testing.T) {
	l := listen(t)
	for small, want := range map[bool]bool{false: false, true: true} {
		c, err := dial(t.Context(), dialing{server: server{url: &url.URL{Scheme: "mqtt", Host: l.Addr().String()}}, small: small})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		for side, c := range map[string]net.Conn{"ours": c.(*metered).Conn, "the broker's": peer} {
			raw, err := c.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			size := 0
			_ = raw.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) })
			if err != nil {
				t.Fatal(err)
			}
			same(t, side, size <= segmentLeast, want)
		}
	}
}

// TestMeter counts what the other side has taken, not what waits in this machine.
func TestMeter(t *testing.T) {
	l := listen(t)
	m := &meter{}
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c := m.wrap(raw)
	const size = 64 << 20
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, size))
		wrote <- err
	}()
	for end := time.Now().Add(patience); m.written.Load() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a write that blocks is not counted")
		}
	}
	if out, _ := m.moved(); out > size/2 {
		t.Errorf("%d bytes count as taken, and nobody has read one", out)
	}
	go func() { _, _ = io.Copy(io.Discard, peer) }()
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if out, _ := m.moved(); out == size {
			break
		}
		if time.Now().After(end) {
			t.Fatal("not everything counts as taken")
		}
	}
}
