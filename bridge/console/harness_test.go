package console

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local/storedir"
	"fleetbridge/fleetsim"
)

func TestMain(m *testing.M) {
	fleetsim.Hurry()
	os.Exit(m.Run())
}

// patience is how long a test waits for what should happen at once.
const patience = 30 * time.Second

// site is a gateway with its console, a simulated cloud behind a link that can break, and a program.
type site struct {
	t       *testing.T
	cfg     *gateway.Config
	sim     *fleetsim.Sim
	link    *fleetsim.Link
	gw      *gateway.Gateway
	console *Console
	page    func(*Console) gateway.Page // nil: the console itself
	web     *http.Transport
	nc      *nats.Conn
	js      jetstream.JetStream
	url     string
	token   string // of an operator
	stop    func()
}

// open starts a site and returns when every Thing is connected.
func open(t *testing.T, edit func(*gateway.Config), expected ...fleetsim.Expectation) *site {
	t.Helper()
	s := &site{t: t, cfg: gateway.Default(), web: http.DefaultTransport.(*http.Transport)}
	s.cfg.Things = []gateway.Thing{{Name: "pump-07", ClientID: "pump-07"}, {Name: "pump.08", ClientID: "pump.08"}}
	s.cfg.NATS.Embedded.Listen, s.cfg.HTTP.Listen, s.cfg.Console.Listen = "127.0.0.1:0", "", "127.0.0.1:0"
	s.cfg.NATS.Embedded.StoreDir = t.TempDir()
	s.cfg.Commands.HandlerWait = 50 * time.Millisecond
	if edit != nil {
		edit(s.cfg)
	}
	if file := s.cfg.Console.TLS.CertFile; file != "" {
		s.web = trusting(t, file)
	}
	options := fleetsim.Options{}
	for _, thing := range s.cfg.Things {
		options.Things = append(options.Things, thing.Name)
	}
	s.sim = fleetsim.Start(t, options)
	var err error
	if s.link, err = fleetsim.NewLink(s.sim.BrokerURL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.link.Close() })
	s.cfg.MQTT.Server, s.cfg.Fleets = []string{s.link.URL()}, gateway.Fleets{URL: s.sim.HTTPURL(), APIKey: "k", APISecret: "s3cret-of-the-api"}
	s.start(fleetsim.Log(t, append(expected, "messages become dead letters")...))
	return s
}

// start runs the bridge and connects the program.
func (s *site) start(log *slog.Logger) {
	s.t.Helper()
	gw, err := gateway.New(s.cfg, gateway.Build{Version: "0.0.0"}, log)
	if err != nil {
		s.t.Fatal(err)
	}
	s.gw = gw
	gw.Console = func(g *gateway.Gateway) gateway.Page {
		s.console = newConsole(g)
		if s.page != nil {
			return s.page(s.console)
		}
		return s.console
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- gw.Run(ctx) }()
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("the bridge stopped with: %v", err)
		}
	}
	s.t.Cleanup(func() { s.stop() })
	select {
	case <-gw.Listening():
	case err := <-ended:
		ended <- nil
		s.t.Fatalf("the bridge did not start: %v", err)
	case <-s.context().Done():
		s.t.Fatal("the bridge did not start in time")
	}
	login, err := storedir.OperatorLogin(s.cfg.NATS.Embedded.StoreDir)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.nc, err = nats.Connect(gw.NATSURL(), login); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.nc.Close)
	if s.js, err = jetstream.New(s.nc); err != nil {
		s.t.Fatal(err)
	}
	link, err := gw.ConsoleLink(true)
	if err != nil {
		s.t.Fatal(err)
	}
	u, err := url.Parse(link)
	if err != nil {
		s.t.Fatal(err)
	}
	s.url = u.Scheme + "://" + u.Host
	s.token = s.login(true)
	s.until("every Thing is connected", func() bool {
		o := get[overviewAnswer](s, "overview")
		return o.Things["connected"] == len(s.cfg.Things) && o.Ready
	})
}

func (s *site) context() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	s.t.Cleanup(cancel)
	return ctx
}

// until asks again until the answer is as it should be.
func (s *site) until(what string, good func() bool) {
	s.t.Helper()
	for ctx := s.context(); !good(); {
		select {
		case <-ctx.Done():
			s.t.Fatalf("not in time: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// call asks the API with a token and returns status and answer.
func (s *site) call(token, method, path string, body any, header ...string) (int, string) {
	s.t.Helper()
	answer := s.do(token, method, path, body, header...)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func (s *site) do(token, method, path string, body any, header ...string) *http.Response {
	s.t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		in = bytes.NewReader(text)
	}
	q, err := http.NewRequestWithContext(s.context(), method, s.url+path, in)
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			q.Host = header[i+1]
		}
	}
	answer, err := s.web.RoundTrip(q)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer
}

// get asks as an operator for what must be there.
func get[T any](s *site, path string) (out T) {
	s.t.Helper()
	code, text := s.call(s.token, "GET", base+path, nil)
	if code != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, code, text)
	}
	return decode[T](s.t, text)
}

func decode[T any](t *testing.T, text string) (out T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out
}

// streams are the names of all that the server has, those of buckets too.
func (s *site) streams() map[string]bool {
	out := map[string]bool{}
	names := s.js.StreamNames(s.context())
	for name := range names.Name() {
		out[name] = true
	}
	if names.Err() != nil || len(out) == 0 {
		s.t.Fatalf("streams: %v", names.Err())
	}
	return out
}

// login takes a new link for a token.
func (s *site) login(operates bool) string {
	s.t.Helper()
	link, err := s.gw.ConsoleLink(operates)
	if err != nil {
		s.t.Fatal(err)
	}
	_, code, _ := strings.Cut(link, "/#login=")
	status, text := s.call("", "POST", base+"session", map[string]string{"link": code})
	var answer loginAnswer
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusOK {
		s.t.Fatalf("login: %d %s", status, text)
	}
	return answer.Token
}

// publish stores a message upwards.
func (s *site) publish(subject, payload string) {
	s.t.Helper()
	if _, err := s.js.Publish(s.context(), subject, []byte(payload)); err != nil {
		s.t.Fatal(err)
	}
}

func withEnd(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithTimeout(t.Context(), patience)
	t.Cleanup(stop)
	return ctx, stop
}
