//go:build realbroker

package cloud

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"fleetbridge/fleetsim"
)

const mosquitto = "/usr/sbin/mosquitto"

// realBroker is a mosquitto that can be killed and started again on the same port.
type realBroker struct {
	t       *testing.T
	address string
	config  string
	process *exec.Cmd
}

func startMosquitto(t *testing.T, more string) *realBroker {
	t.Helper()
	b := &realBroker{t: t, address: fleetsim.Address(t), config: filepath.Join(t.TempDir(), "mosquitto.conf")}
	_, port, _ := net.SplitHostPort(b.address)
	text := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n%s\n", port, more)
	if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	t.Cleanup(b.kill)
	return b
}

func (b *realBroker) start() {
	b.t.Helper()
	b.process = exec.Command(mosquitto, "-c", b.config)
	if err := b.process.Start(); err != nil {
		b.t.Fatal(err) // a missing broker is a failure: this test was asked for
	}
	for deadline := time.Now().Add(patience); ; {
		c, err := net.Dial("tcp", b.address)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (b *realBroker) kill() {
	_ = b.process.Process.Kill()
	_ = b.process.Wait()
}

// other is a plain client, for the cloud's side.
func (b *realBroker) other(id string, received func(*paho.Publish)) *paho.Client {
	b.t.Helper()
	c, err := net.Dial("tcp", b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	client := paho.NewClient(paho.ClientConfig{
		Conn: c, ClientID: id,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			received(p.Packet)
			return true, nil
		}},
	})
	if _, err := client.Connect(b.t.Context(), &paho.Connect{ClientID: id, KeepAlive: 30, CleanStart: true}); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = client.Disconnect(&paho.Disconnect{}) })
	return client
}

// breaker forwards connections and cuts them when told to.
type breaker struct {
	url *url.URL
	mu  sync.Mutex
	all []net.Conn
}

func newBreaker(t *testing.T, target string) *breaker {
	l := listen(t)
	b := &breaker{url: &url.URL{Scheme: "mqtt", Host: l.Addr().String()}}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				_ = near.Close()
				continue
			}
			b.mu.Lock()
			b.all = append(b.all, near, far)
			b.mu.Unlock()
			for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = near.Close()
					_ = far.Close()
				}()
			}
		}
	}()
	t.Cleanup(b.cut)
	return b
}

func (b *breaker) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.all {
		_ = c.Close()
	}
	b.all = nil
}

// TestMosquittoThroughCuts sends thousands both ways while the link is cut every few moments: nothing is
// lost, and first arrivals are in order.
func TestMosquittoThroughCuts(t *testing.T) {
	const n = 5000
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	broker := startMosquitto(t, "")
	link := newBreaker(t, broker.address)
	ready := make(chan struct{}, 1000)
	s := run(t, Config{
		Servers: []*url.URL{link.url}, ClientID: "pump", Backoff: Backoff{Min: 5 * time.Millisecond, Max: 20 * time.Millisecond},
	}, Hooks{Ready: func(context.Context, bool) { ready <- struct{}{} }}, slog.New(slog.DiscardHandler))
	await(t, ctx, ready)

	up := make(chan string, 20*n)
	cloud := broker.other("cloud", func(p *paho.Publish) { up <- string(p.Payload) })
	if _, err := cloud.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "$emqx/things/pump-07/events/+", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var cuts sync.WaitGroup
	cuts.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(20+rand.IntN(80)) * time.Millisecond):
				link.cut()
			}
		}
	})
	acked := make(chan error, n)
	go func() {
		for i := range n {
			_ = s.Send(ctx, event(strconv.Itoa(i)), func(err error) { acked <- err })
			if i%20 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	go func() {
		for i := range n {
			if _, err := cloud.Publish(ctx, &paho.Publish{Topic: notify, QoS: 1, Payload: []byte(strconv.Itoa(i))}); err != nil {
				return
			}
		}
	}()
	next := 0
	for next < n {
		d := one(t, ctx, s)
		i, _ := strconv.Atoi(string(d.Payload))
		if i > next {
			t.Fatalf("down: %d came before %d", i, next)
		}
		if i == next {
			next++
		}
		d.Settle()
	}
	for range n {
		if err := await(t, ctx, acked); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	cuts.Wait()
	same(t, "in flight", s.InFlight(), 0)
	for next = 0; next < n; {
		i, _ := strconv.Atoi(await(t, ctx, up))
		if i > next {
			t.Fatalf("up: %d came before %d", i, next)
		}
		if i == next {
			next++
		}
	}
	t.Logf("%d connections", len(ready)+1)
}

// TestMosquittoRestart: a broker that forgets its sessions gets everything that it had not acknowledged.
func TestMosquittoRestart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	broker := startMosquitto(t, "")
	present := make(chan bool, 10)
	s := run(t, Config{
		Servers: []*url.URL{{Scheme: "mqtt", Host: broker.address}}, ClientID: "pump", Backoff: Backoff{Min: 5 * time.Millisecond, Max: 20 * time.Millisecond},
	}, Hooks{Ready: func(_ context.Context, p bool) { present <- p }}, slog.New(slog.DiscardHandler))
	same(t, "session", await(t, ctx, present), false)
	broker.kill()
	acked := make(chan error, 100)
	for i := range 100 {
		if err := s.Send(ctx, event(strconv.Itoa(i)), func(err error) { acked <- err }); err != nil {
			t.Fatal(err)
		}
	}
	broker.start()
	same(t, "session", await(t, ctx, present), false)
	for range 100 {
		if err := await(t, ctx, acked); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMosquittoTakesOver: another client with the same id, of which this broker says nothing.
func TestMosquittoTakesOver(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	broker := startMosquitto(t, "")
	ready := make(chan struct{}, 10)
	log := &records{}
	run(t, Config{
		Servers: []*url.URL{{Scheme: "mqtt", Host: broker.address}}, ClientID: "pump", Backoff: Backoff{Min: 5 * time.Millisecond},
	}, Hooks{Ready: func(context.Context, bool) { ready <- struct{}{} }}, slog.New(log))
	for range 3 {
		await(t, ctx, ready)
		broker.other("pump", func(*paho.Publish) {})
	}
	await(t, ctx, ready)
	same(t, "hint", log.count("does another client use the client id?"), 1)
}
