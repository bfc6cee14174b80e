package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// patience is how long a test waits for what should happen at once; a machine that is busy besides needs some of it.
const patience = 30 * time.Second

// Every kind of measurement works on a bridge in this process, against both built-in brokers, with more
// than one Thing, and leaves nothing behind.
func TestRun(t *testing.T) {
	for _, broker := range []string{BrokerFree, BrokerSim} {
		for _, k := range Kinds {
			channels := k.Channels()
			if broker == BrokerSim {
				channels = channels[:1]
			}
			for _, c := range channels {
				t.Run(broker+"/"+string(c), func(t *testing.T) {
					t.Parallel()
					dir := t.TempDir()
					ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
					defer cancel()
					r, err := Run(ctx, Options{
						Load: Load{Kind: k, Channel: c, Size: 300, Messages: 60}, Things: 3, Broker: broker, StoreDir: dir, Sync: "1s",
					})
					if err == nil {
						err = r.Sound()
					}
					if err != nil || r.Messages != 60 || r.Latency.TotalCount() != 60 {
						t.Fatalf("%d messages, %v", r.Messages, err)
					}
					if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
						t.Errorf("left %v, %v", left, err)
					}
				})
			}
		}
	}
}

// Requests of several Things are answered side by side.
func TestRequestsAtOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	r, err := Run(ctx, Options{Load: Load{Kind: Req, Messages: 300, Window: 30}, Things: 3, Broker: BrokerFree, StoreDir: t.TempDir(), Sync: "1s"})
	if err != nil || r.Messages != 300 || r.Lost+r.Failed+r.Repeated != 0 { // the order is nobody's promise
		t.Errorf("%+v, %v", r, err)
	}
}

// A configured broker is used as it is configured. Without a login for the cloud up is counted.
func TestRealBroker(t *testing.T) {
	b, err := fleetsim.NewBroker(fleetsim.BrokerOptions{Logins: []fleetsim.Login{
		{ClientID: "id-of-a", Username: "a", Password: "pa"}, {Username: "cloud", Password: "pc"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	dir := t.TempDir()
	config := filepath.Join(dir, "gw.yaml")
	if err := os.WriteFile(config, []byte(`
mqtt: {server: "`+b.URL()+`"}
things:
  - {name: a, client_id: id-of-a, username: a, password: pa}
  - {name: b}
nats: {prefix: site7, embedded: {store_dir: data}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	o := Options{Load: Load{Kind: Up, Size: 300, Messages: 40}, Things: 1, Broker: BrokerReal, Config: config}
	r, err := Run(ctx, o)
	if err != nil || r.Messages != 40 || r.Latency.TotalCount() != 0 {
		t.Errorf("counted: %+v, %v", r, err)
	}
	for _, k := range []Kind{Up, Down, Command} {
		o.Load = Load{Kind: k, Size: 300, Messages: 40}
		o.CloudUsername, o.CloudPassword = "cloud", "pc"
		if r, err = Run(ctx, o); err != nil || r.Messages != 40 || r.Latency.TotalCount() != 40 {
			t.Errorf("%s: %+v, %v", k, r, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left %v", entries)
	}
	o.CloudPassword = "wrong"
	if _, err := Run(ctx, o); err == nil || !strings.Contains(err.Error(), "CONNACK 0x") {
		t.Errorf("a wrong login of the cloud: %v", err)
	}
	o.Things = 3
	if _, err := Run(ctx, o); err == nil || !strings.Contains(err.Error(), "the configuration names 2") {
		t.Errorf("too many Things: %v", err)
	}
}

// A server of the user's own is not measured.
func TestExternalNATS(t *testing.T) {
	config := filepath.Join(t.TempDir(), "gw.yaml")
	if err := os.WriteFile(config, []byte("mqtt: {server: \"mqtt://127.0.0.1:1\"}\nthings: [{name: a}]\nnats: {url: \"nats://127.0.0.1:1\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Setup{Config: config}).Configuration(); err == nil || !strings.HasPrefix(err.Error(), "nats.url: ") {
		t.Errorf("got %v", err)
	}
}

// A worker does what it is told, and its bridge ends with its input.
func TestWork(t *testing.T) {
	in, orders := io.Pipe()
	answers, out := io.Pipe()
	c := &fake{closed: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		ended <- Work(t.Context(), in, out, func(_ context.Context, s Setup) (Contender, error) {
			c.name = s.Name
			return c, nil
		})
	}()
	p := &Process{in: orders, answers: json.NewDecoder(answers)}
	var err error
	if p.greeted, err = p.ask(Setup{Name: "x"}); err != nil || p.URL() != "nats://x" || p.HTTP() != "http://x" {
		t.Fatalf("%+v, %v", p.greeted, err)
	}
	if u, err := p.Usage(); err != nil || u.CPU <= 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
	path := filepath.Join(t.TempDir(), "cpu.pprof")
	end, err := p.Profile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("profile: %v", err)
	}
	if _, err := p.ask(order{Do: "dance"}); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("got %v", err)
	}
	_ = orders.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	<-c.closed
}

type fake struct {
	name   string
	closed chan struct{}
}

func (f *fake) URL() string  { return "nats://" + f.name }
func (f *fake) HTTP() string { return "http://" + f.name }
func (f *fake) Close() error { close(f.closed); return nil }

// A bridge that can't start is an error that says why.
func TestStartFails(t *testing.T) {
	var out bytes.Buffer
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	setup := strings.NewReader(`{"broker":"mqtt://127.0.0.1:1","things":["a"],"store_dir":"` + dir + `"}`)
	err := Work(t.Context(), setup, &out, func(ctx context.Context, s Setup) (Contender, error) {
		return StartGateway(ctx, s, slog.New(slog.DiscardHandler))
	})
	if err == nil || !strings.Contains(out.String(), `"error":"the bridge ended`) {
		t.Errorf("%v, %s", err, &out)
	}
}

// A path that only MQTT clients are on is measured, too.
func TestDirect(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	for _, k := range []Kind{Up, Down} {
		// A broker for each: this one may forget what a client subscribes to while its connection before that ends.
		b, err := fleetsim.NewBroker(fleetsim.BrokerOptions{Keep: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		l := Load{Kind: k, Size: 300, Messages: 100, Things: []mapping.Thing{"a", "b"}, Window: 50}
		r, err := Measure(ctx, l, Direct{Near: Broker{URL: b.URL()}, Far: Broker{URL: b.URL()}}, Gauges{})
		if err == nil {
			err = r.Sound()
		}
		if err != nil || r.Messages != 100 {
			t.Errorf("%s: %d, %v", k, r.Messages, err)
		}
	}
}

// An interrupt ends a measurement whose other end is stuck.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b, err := NewFreeBroker()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	interrupted, interrupt := context.WithCancel(ctx)
	_, err = Measure(interrupted, Load{Kind: Down, Size: 300, Things: []mapping.Thing{"a"}, Duration: time.Hour}, &stuck{interrupt: interrupt, closed: make(chan struct{})}, Gauges{})
	if err == nil || ctx.Err() != nil {
		t.Errorf("got %v", err)
	}
}

// stuck takes one message and nothing more until it is closed.
type stuck struct {
	interrupt func()
	closed    chan struct{}
	once      bool
}

func (s *stuck) Open(context.Context, Load, func([]byte), func()) (Ends, error) { return s, nil }

func (s *stuck) Send(int, int64, []byte) error {
	s.interrupt()
	<-s.closed
	return io.ErrClosedPipe
}

func (s *stuck) Close() {
	if !s.once {
		s.once = true
		close(s.closed)
	}
}

func TestReportAndCSV(t *testing.T) {
	r := measure(t, Load{Messages: 5}, func(s *script, _ int64, payload []byte) { s.got(payload) })
	r.Subject, r.Own = Usage{CPU: 5 * time.Millisecond, Memory: 64 << 20}, Usage{CPU: time.Millisecond}
	var out bytes.Buffer
	if err := Report(&out, r, BrokerSim); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"down       shadow.delta, 300 bytes, 4,096 under way at a time, 1 Thing, broker: sim\n", "5 messages in", "p99.9", "1000.0 µs of CPU a message", "64 MiB"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if len(r.record(time.Now(), BrokerSim)) != len(Columns) {
		t.Error("a row has other columns than the header")
	}
	for in, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := number(in); got != want {
			t.Errorf("%v is %s", in, got)
		}
	}
}

func TestDelivered(t *testing.T) {
	text := `fleetbridge_messages_total{channel="event",direction="up",outcome="dead"} 7
fleetbridge_messages_total{channel="event",direction="up",outcome="delivered"} 1.5e+06
`
	if n, err := deliveredUp(text, mapping.Event); err != nil || n != 1_500_000 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := deliveredUp(text, mapping.ShadowReport); err == nil {
		t.Error("a channel that is not counted is no error")
	}
}
