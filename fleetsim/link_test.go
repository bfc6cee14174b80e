package fleetsim_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"fleetbridge/fleetsim"
)

func newLink(t *testing.T, target string) *fleetsim.Link {
	t.Helper()
	l := must(fleetsim.NewLink(target))(t)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, l *fleetsim.Link) net.Conn {
	t.Helper()
	c := must(net.Dial("tcp", l.Addr()))(t)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// exchange sends and expects the same back within the time.
func exchange(c net.Conn, s string, within time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, s); err != nil {
		return err
	}
	got := make([]byte, len(s))
	_, err := io.ReadFull(c, got)
	if err == nil && string(got) != s {
		return errors.New("came back as " + string(got))
	}
	return err
}

func TestLinkCutAndRestore(t *testing.T) {
	l := newLink(t, echo(t))
	c := dial(t, l)
	if err := exchange(c, "hello", patience); err != nil {
		t.Fatal(err)
	}
	l.Cut()
	if err := exchange(c, "hello", patience); err == nil || errors.Is(err, errTimeout(err)) {
		t.Errorf("after Cut: %v", err)
	}
	if c, err := net.Dial("tcp", l.Addr()); err == nil {
		if err := exchange(c, "hello", patience); err == nil || errors.Is(err, errTimeout(err)) {
			t.Errorf("a new connection after Cut: %v", err)
		}
	}
	l.Restore()
	c = dial(t, l)
	if err := exchange(c, "hello", patience); err != nil {
		t.Errorf("after Restore: %v", err)
	}
	l.Drop()
	if err := exchange(c, "hello", patience); err == nil {
		t.Error("after Drop the connection still works")
	}
	if err := exchange(dial(t, l), "hello", patience); err != nil {
		t.Errorf("a new connection after Drop: %v", err)
	}
	if n := l.Accepted(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

// errTimeout is the error itself if it is a timeout, so that errors.Is says so.
func errTimeout(err error) error {
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		return err
	}
	return io.ErrNoProgress
}

func TestLinkBlackHole(t *testing.T) {
	l := newLink(t, echo(t))
	old := dial(t, l)
	if err := exchange(old, "a", patience); err != nil {
		t.Fatal(err)
	}
	l.BlackHole(true)
	if err := exchange(old, "b", 50*time.Millisecond); !errors.Is(err, errTimeout(err)) {
		t.Errorf("in the hole: %v", err)
	}
	fresh := dial(t, l)
	if err := exchange(fresh, "c", 50*time.Millisecond); !errors.Is(err, errTimeout(err)) {
		t.Errorf("a new connection in the hole: %v", err)
	}
	l.BlackHole(false)
	_ = old.SetDeadline(time.Now().Add(patience))
	late := make([]byte, 1)
	if _, err := io.ReadFull(old, late); err != nil || late[0] != 'b' {
		t.Errorf("after the hole: %q, %v", late, err)
	}
	if err := exchange(fresh, "d", patience); err == nil || errors.Is(err, errTimeout(err)) {
		t.Errorf("a connection made in the hole: %v", err)
	}
}

func TestLinkDelayAndThrottle(t *testing.T) {
	l := newLink(t, echo(t))
	c := dial(t, l)
	l.Delay(40 * time.Millisecond)
	begin := time.Now()
	if err := exchange(c, "a", patience); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < 80*time.Millisecond {
		t.Errorf("there and back in %v, with 40 ms each way", d)
	}
	l.Delay(0)
	l.Throttle(10_000)
	begin = time.Now()
	if err := exchange(c, string(bytes.Repeat([]byte("x"), 1000)), patience); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < 80*time.Millisecond {
		t.Errorf("1,000 bytes at 10,000 a second in %v", d)
	}
}

// TestLinkShapes: each direction has a shape of its own, and what was sent into it is counted.
func TestLinkShapes(t *testing.T) {
	l := newLink(t, echo(t))
	l.Shape(fleetsim.FromClient, fleetsim.Shape{Rate: 20_000, Delay: 20 * time.Millisecond, Jitter: 30 * time.Millisecond, Seed: 7})
	c := dial(t, l)
	text := strings.Repeat("abcdefghij", 300)
	begin := time.Now()
	if err := exchange(c, text, patience); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < 170*time.Millisecond {
		t.Errorf("3,000 bytes at 20,000 a second and 20 ms in %v", d)
	}
	for _, flow := range []fleetsim.Flow{fleetsim.FromClient, fleetsim.FromBroker} {
		if n := l.Carried(flow); n != 3000 {
			t.Errorf("%d bytes sent, want 3000", n)
		}
	}
	l.Shape(fleetsim.FromClient, fleetsim.Shape{Rate: 100})
	if err := exchange(c, text, 100*time.Millisecond); !errors.Is(err, errTimeout(err)) {
		t.Errorf("3,000 bytes at 100 a second: %v", err)
	}
}

// TestLinkSlowIsFelt: who sends into a slow link sees how slow it is.
func TestLinkSlowIsFelt(t *testing.T) {
	l := newLink(t, echo(t))
	l.Throttle(1000)
	c := dial(t, l)
	if err := exchange(c, "a", patience); err != nil { // the link is through to the server
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).SetWriteBuffer(4096)
	_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	if n, err := c.Write(make([]byte, 1<<20)); !errors.Is(err, errTimeout(err)) || n > 32<<10 {
		t.Errorf("%d bytes written, %v", n, err)
	}
}

// TestLinkHole: a large packet vanishes with all that comes behind it in its direction; the other one goes on, and
// so does the next connection.
func TestLinkHole(t *testing.T) {
	for _, flow := range []fleetsim.Flow{fleetsim.FromClient, fleetsim.FromBroker} {
		l := newLink(t, echo(t))
		l.Shape(flow, fleetsim.Shape{Hole: 200})
		publish := func(size int) string { // a PUBLISH of so many bytes
			return string([]byte{0x30, byte((size-3)&0x7F | 0x80), byte((size - 3) >> 7)}) + strings.Repeat("x", size-3)
		}
		c := dial(t, l)
		if err := exchange(c, publish(200)+"\xC0\x00", patience); err != nil {
			t.Fatalf("what is small enough: %v", err)
		}
		if err := exchange(c, publish(201), 50*time.Millisecond); !errors.Is(err, errTimeout(err)) {
			t.Errorf("what is too large: %v", err)
		}
		if err := exchange(c, "\xC0\x00", 50*time.Millisecond); !errors.Is(err, errTimeout(err)) {
			t.Errorf("what comes behind it: %v", err)
		}
		if err := exchange(dial(t, l), "\xC0\x00", patience); err != nil {
			t.Errorf("the next connection: %v", err)
		}
	}
}

func TestLinkCutsAtPackets(t *testing.T) {
	for _, c := range []struct {
		about    string
		cut      func(*fleetsim.Link) <-chan struct{}
		received int // publishes that reach the broker, of the 3 sent; with After perhaps one more
	}{
		{"after CONNECT", func(l *fleetsim.Link) <-chan struct{} {
			return l.CutAfter(fleetsim.FromClient, fleetsim.CONNECT, 1)
		}, 0},
		{"before CONNACK", func(l *fleetsim.Link) <-chan struct{} {
			return l.CutBefore(fleetsim.FromBroker, fleetsim.CONNACK, 1)
		}, 0},
		{"after SUBSCRIBE", func(l *fleetsim.Link) <-chan struct{} {
			return l.CutAfter(fleetsim.FromClient, fleetsim.SUBSCRIBE, 1)
		}, 0},
		{"before PUBLISH 2", func(l *fleetsim.Link) <-chan struct{} {
			return l.CutBefore(fleetsim.FromClient, fleetsim.PUBLISH, 2)
		}, 1},
		{"before PUBACK 2", func(l *fleetsim.Link) <-chan struct{} {
			return l.CutBefore(fleetsim.FromBroker, fleetsim.PUBACK, 2)
		}, 2},
		{"after PUBACK 2", func(l *fleetsim.Link) <-chan struct{} {
			return l.CutAfter(fleetsim.FromBroker, fleetsim.PUBACK, 2)
		}, 2},
		{"in the middle of PUBLISH", func(l *fleetsim.Link) <-chan struct{} {
			torn := make(chan struct{})
			l.Before(fleetsim.FromBroker, fleetsim.PUBACK, 1, func() { l.ResetMidPacket(fleetsim.FromClient); close(torn) })
			return torn
		}, 1},
	} {
		t.Run(c.about, func(t *testing.T) {
			b := must(fleetsim.NewBroker(fleetsim.BrokerOptions{Log: fleetsim.Log(t)}))(t)
			defer b.Close()
			l := newLink(t, b.URL())
			cut := c.cut(l)
			play(t, l)
			select {
			case <-cut:
			case <-deadline(t).Done():
				t.Fatal("not cut")
			}
			if err := b.WaitConnected(deadline(t), name, false); err != nil {
				t.Fatal(err)
			}
			more := 0
			if strings.HasPrefix(c.about, "after") {
				more = 1
			}
			if got := len(b.Received()); got < c.received || got > c.received+more {
				t.Errorf("%d publishes arrived, want %d", got, c.received)
			}
			l.Restore()
			if _, _, err := connect(t, l.URL(), login{}); err != nil {
				t.Errorf("after Restore: %v", err)
			}
		})
	}
}

// play connects, subscribes and publishes three times, one after the other, until an error.
func play(t *testing.T, l *fleetsim.Link) {
	t.Helper()
	d, _, err := connect(t, l.URL(), login{})
	if err != nil {
		return
	}
	if _, err := d.client.Subscribe(deadline(t), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "x", QoS: 1}}}); err != nil {
		return
	}
	for range 3 {
		if r, err := d.client.Publish(deadline(t), &paho.Publish{Topic: "y", Payload: bytes.Repeat([]byte("z"), 20_000), QoS: 1}); err != nil && r == nil {
			return
		}
	}
}

func TestLinkHolds(t *testing.T) {
	sim := start(t, fleetsim.Options{})
	l := newLink(t, sim.BrokerURL())
	d := newDevice(t, l.URL())
	reached, release := l.HoldBefore(fleetsim.FromBroker, fleetsim.PUBLISH, 1)
	must(sim.SendCommand(fleetsim.Command{Thing: name, Action: "held", ID: "e1"}))(t)
	select {
	case <-reached:
	case <-deadline(t).Done():
		t.Fatal("nothing came")
	}
	if len(d.in) != 0 {
		t.Error("the packet was passed on")
	}
	release()
	d.receive("e1/request")
}
