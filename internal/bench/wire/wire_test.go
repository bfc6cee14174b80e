package wire

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// patience is how long a test waits for what should happen at once; a machine that is busy besides needs some of it.
const patience = 30 * time.Second

func dial(t testing.TB, b *Broker, o Options) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.URL(), "mqtt://"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Connect(ctx, conn, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// peer waits until the client is subscribed.
func peer(t testing.TB, b *Broker, id string) *Peer {
	t.Helper()
	timeout := time.After(patience)
	for {
		p, changed := b.Peer(id)
		if p != nil {
			return p
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%q did not subscribe", id)
		}
	}
}

func payload(i, size int) []byte {
	return append(fmt.Appendf(nil, "%d:", i), bytes.Repeat([]byte("x"), size)...)
}

// What one end publishes arrives at the other whole, in order and once, whatever its size.
func TestBothWays(t *testing.T) {
	const n = 5000
	size := func(i int) int {
		if i%1000 == 999 {
			return buffer + 100
		}
		return i % 300
	}
	arrived := make(chan error, 2*n)
	check := func(what string) func(topic, got []byte) {
		i := 0
		return func(topic, got []byte) {
			if want := payload(i, size(i)); string(topic) != what || !bytes.Equal(got, want) {
				arrived <- fmt.Errorf("%s %d: %s with %d bytes, want %d", what, i, topic, len(got), len(want))
			} else {
				arrived <- nil
			}
			i++
		}
	}
	up := check("up")
	b, err := Listen(func(p *Peer, topic, payload []byte) { up(topic, payload) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	c := dial(t, b, Options{ClientID: "c", OnPublish: check("down")})
	if err := c.Subscribe(t.Context(), "#"); err != nil {
		t.Fatal(err)
	}
	p := peer(t, b, "c")
	publish := func(topic string, f func(string, []byte) error) {
		for i := range n {
			if err := f(topic, payload(i, size(i))); err != nil {
				t.Error(err)
				return
			}
		}
	}
	go publish("up", c.Publish)
	go publish("down", p.Publish)
	timeout := time.After(2 * patience)
	for range 2 * n {
		select {
		case err := <-arrived:
			if err != nil {
				t.Fatal(err)
			}
		case <-timeout:
			t.Fatal("not everything arrived")
		}
	}
}

// As many messages as the other end takes are under way, and the next goes when one is acknowledged.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		hold, sent := make(chan struct{}), make(chan error, 4)
		p := newPeer(near, func(*Peer, []byte, []byte) {})
		p.window = 3
		for _, end := range []*Peer{p, newPeer(far, func(*Peer, []byte, []byte) { <-hold })} {
			go end.write()
			go end.read(func(byte, []byte) error { return errMalformed })
			defer end.Close()
		}
		go func() {
			for range cap(sent) {
				sent <- p.Publish("t", []byte("x"))
			}
		}()
		synctest.Wait()
		if n := len(sent); n != 3 {
			t.Errorf("%d messages went before an acknowledgement", n)
		}
		close(hold)
		for range cap(sent) {
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The broker takes the client's Receive Maximum for its window.
func TestReceiveMaximum(t *testing.T) {
	b, err := Listen(func(*Peer, []byte, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	near, far := net.Pipe()
	defer near.Close()
	p := newPeer(far, nil)
	body := appendString(append(append(appendString(nil, "MQTT"), 5, 2, 0, keepAlive), 3, receiveMaximum, 0, 3), "c")
	if err := b.greet(p, body); err != nil || p.ClientID != "c" || p.window != 3 {
		t.Errorf("client %q, window %d, %v", p.ClientID, p.window, err)
	}
}

// Whoever waits is told when the connection is lost.
func TestLost(t *testing.T) {
	b, err := Listen(func(*Peer, []byte, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, b, Options{ClientID: "c"})
	b.Close()
	<-c.written
	if err := c.Publish("t", nil); err == nil {
		t.Error("a publish on a lost connection is no error")
	}
	if err := c.Subscribe(t.Context(), "#"); err == nil {
		t.Error("a subscribe on a lost connection is no error")
	}
}

func BenchmarkPublish(b *testing.B) {
	arrived, all := 0, make(chan struct{})
	broker, err := Listen(func(*Peer, []byte, []byte) {
		if arrived++; arrived == b.N {
			close(all)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	c, body := dial(b, broker, Options{ClientID: "c"}), payload(0, 300)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if err := c.Publish("$emqx/things/pump-07/events/x", body); err != nil {
			b.Fatal(err)
		}
	}
	<-all
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
