package gateway_test

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local/storedir"
	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
	"fleetbridge/test/brokers"
)

func TestMain(m *testing.M) {
	fleetsim.Hurry()
	code := m.Run()
	closeShared()
	os.Exit(code)
}

// Everything here runs against the simulator's own broker; with -broker mosquitto, artemis or hivemq, against that one; with
// -broker like:emqx-5.8, against the simulator's own, which behaves like that one as fleetsim --like does.
var brokerFlag = flag.String("broker", "sim", "the MQTT broker of the end-to-end tests: sim, the name of a real one, or like:NAME[,KNOB=VALUE...]")

// site is a whole gateway in a test: cloud, broker, a link that can break, bridge, and a program's
// connection.
type site struct {
	t      *testing.T
	sim    *fleetsim.Sim
	link   *fleetsim.Link
	tap    *brokers.Tap   // in front of a real broker
	broker brokers.Broker // a real one that is this site's own
	cfg    *gateway.Config
	log    *slog.Logger
	nc     *nats.Conn
	js     jetstream.JetStream
	gw     *gateway.Gateway
	stop   func()
	ended  chan error // how the run ended

	statusBucket string
	dial         []nats.Option
}

type siteOption func(*siteOptions)

type siteOptions struct {
	sim    fleetsim.Options
	things []string
	expect []fleetsim.Expectation
	edit   func(*gateway.Config)
	cut    bool
	noAPI  bool
	dial   []nats.Option
	knobs  []string // with -broker like:NAME, behind it
	own    bool     // a real broker is not shared with other sites

	statusBucket string
}

func things(names ...string) siteOption { return func(o *siteOptions) { o.things = names } }
func expect(warnings ...string) siteOption {
	return func(o *siteOptions) {
		for _, w := range warnings {
			o.expect = append(o.expect, fleetsim.Expect(w))
		}
	}
}
func edit(f func(*gateway.Config)) siteOption {
	return func(o *siteOptions) {
		before := o.edit
		o.edit = func(c *gateway.Config) {
			if before != nil {
				before(c)
			}
			f(c)
		}
	}
}
func startCut() siteOption { return func(o *siteOptions) { o.cut = true } }
func dialWith(options ...nats.Option) siteOption {
	return func(o *siteOptions) { o.dial = options }
}
func withoutAPI() siteOption { return func(o *siteOptions) { o.noAPI = true } }
func cloud(f func(*fleetsim.Options)) siteOption {
	return func(o *siteOptions) { f(&o.sim) }
}

// open starts a site and returns when programs can connect and, unless it starts cut, every Thing is
// ready.
func open(t *testing.T, options ...siteOption) *site {
	t.Helper()
	o := siteOptions{things: []string{"pump-07"}, statusBucket: "FLEETS_STATUS"}
	for _, f := range options {
		f(&o)
	}
	s := &site{t: t, statusBucket: o.statusBucket, dial: o.dial}
	if kind, is := brokers.Find(*brokerFlag); is {
		if why := kind.Skips[t.Name()]; why != "" {
			t.Skip(why)
		}
		s.broker, s.tap = realBroker(t, kind, o.own)
		o.sim.Broker = s.tap.URL()
	}
	if text, like := strings.CutPrefix(*brokerFlag, "like:"); like {
		traits, err := fleetsim.Like(strings.Join(append([]string{text}, o.knobs...), ","))
		if err != nil {
			t.Fatalf("-broker: %v", err)
		}
		o.sim.Embedded.Like = traits
	}
	o.sim.Things = append(o.sim.Things, o.things...)
	o.sim.APIKey, o.sim.APISecret = "ak_test", "secret-of-the-api"
	s.sim = fleetsim.Start(t, o.sim)
	link, err := fleetsim.NewLink(s.sim.BrokerURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = link.Close() })
	s.link = link
	if o.cut {
		link.Cut()
	}
	s.cfg = gateway.Default()
	s.cfg.MQTT.Server = []string{link.URL()}
	for _, name := range o.things {
		s.cfg.Things = append(s.cfg.Things, gateway.Thing{Name: name, ClientID: name})
	}
	if !o.noAPI {
		s.cfg.Fleets = gateway.Fleets{URL: s.sim.HTTPURL(), APIKey: "ak_test", APISecret: "secret-of-the-api"}
	}
	s.cfg.NATS.Embedded.Listen = "127.0.0.1:0"
	s.cfg.NATS.Embedded.StoreDir = t.TempDir()
	s.cfg.HTTP.Listen = "127.0.0.1:0"
	s.cfg.Requests.Timeout = patience // the cloud answers at once, but on a busy machine
	if o.edit != nil {
		o.edit(s.cfg)
	}
	// Tests that read letters make them; a flow that should have none finds its message missing.
	s.log = fleetsim.Log(t, append(o.expect, "messages become dead letters", lateNote)...)
	s.start()
	if !o.cut {
		s.ready()
	}
	return s
}

// patience is how long a test waits for what should happen at once; a machine that is busy besides needs some of it.
const patience = 2 * time.Minute

// shortPause is between the first two looks at what changes some time, and longer is the next pause: what a page costs is not
// to be paid many times for what takes seconds.
const shortPause = 10 * time.Millisecond

func longer(pause time.Duration) time.Duration { return min(pause*3/2, 200*time.Millisecond) }

// lateNote is logged when a busy machine takes too long to say at a stop what the streams hold, and the next start looks for itself.
const lateNote = `error="noting what the streams hold: context deadline exceeded"`

// context ends with the test's patience.
func (s *site) context() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	s.t.Cleanup(cancel)
	return ctx
}

// start runs the bridge and connects the program.
func (s *site) start() {
	s.t.Helper()
	gw, err := gateway.New(s.cfg, gateway.Build{Version: "0.0.0"}, s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	s.gw = gw
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s.ended = ended
	go func() { ended <- gw.Run(ctx) }()
	select {
	case <-gw.Listening():
	case err := <-ended:
		s.t.Fatalf("the bridge did not start: %v", err)
	case <-s.context().Done():
		s.t.Fatal("the bridge did not start in time")
	}
	login, err := storedir.OperatorLogin(s.cfg.NATS.Embedded.StoreDir) // with users the test is the operator
	if err != nil {
		s.t.Fatal(err)
	}
	nc, err := nats.Connect(gw.NATSURL(), append([]nats.Option{nats.Name("test program"), login}, s.dial...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.nc = nc
	if s.js, err = jetstream.New(nc); err != nil {
		s.t.Fatal(err)
	}
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		nc.Close()
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				s.t.Errorf("the bridge stopped with: %v", err)
			}
		case <-time.After(patience):
			s.t.Errorf("the bridge did not stop within %v", patience)
		}
	}
	s.t.Cleanup(func() { s.stop() })
}

// restart stops the bridge as a signal would and starts it on the same store.
func (s *site) restart() {
	s.t.Helper()
	s.stop()
	s.start()
}

// ready waits until every Thing is connected, subscribed and done with its start-up procedure.
func (s *site) ready() {
	s.t.Helper()
	for _, t := range s.cfg.Things {
		s.status(t.Name, func(status string) bool {
			return strings.Contains(status, `"connected":true`) && strings.Contains(status, `"subscribed":true`) &&
				(s.cfg.Fleets.URL == "" || strings.Contains(status, `"shadow":"known"`))
		})
	}
}

// status waits until a Thing's entry in FLEETS_STATUS matches.
func (s *site) status(thing string, match func(string) bool) string {
	s.t.Helper()
	return s.watch(s.statusBucket, mapping.Token(thing), match)
}

// watch waits until a key of a bucket matches.
func (s *site) watch(bucket, key string, match func(string) bool) string {
	s.t.Helper()
	ctx := s.context()
	kv, err := s.js.KeyValue(ctx, bucket)
	if err != nil {
		s.t.Fatal(err)
	}
	w, err := kv.Watch(ctx, key)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = w.Stop() }()
	last := ""
	for {
		select {
		case e := <-w.Updates():
			if e == nil {
				continue
			}
			if last = string(e.Value()); match(last) {
				return last
			}
		case <-ctx.Done():
			s.t.Fatalf("%s %s stayed %s", bucket, key, last)
		}
	}
}

// publish stores a message upwards, as a program does that wants to know.
func (s *site) publish(subject, payload string) {
	s.t.Helper()
	if _, err := s.js.Publish(s.context(), subject, []byte(payload)); err != nil {
		s.t.Fatalf("publish on %s: %v", subject, err)
	}
}

// subscribe listens as a live program does.
func (s *site) subscribe(subject string) *nats.Subscription {
	s.t.Helper()
	sub, err := s.nc.SubscribeSync(subject)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.nc.Flush(); err != nil {
		s.t.Fatal(err)
	}
	return sub
}

func (s *site) next(sub *nats.Subscription) *nats.Msg {
	s.t.Helper()
	m, err := sub.NextMsgWithContext(s.context())
	if err != nil {
		s.t.Fatalf("nothing came on %s: %v", sub.Subject, err)
	}
	return m
}

// request asks and returns the answer, with its error code, 0 for none.
func (s *site) request(subject, payload string, header ...string) (*nats.Msg, string) {
	s.t.Helper()
	m := nats.NewMsg(subject)
	m.Data = []byte(payload)
	for i := 0; i+1 < len(header); i += 2 {
		m.Header.Set(header[i], header[i+1])
	}
	answer, err := s.nc.RequestMsgWithContext(s.context(), m)
	if errors.Is(err, nats.ErrNoResponders) {
		s.t.Fatalf("nobody answers on %s", subject)
	}
	if err != nil {
		s.t.Fatalf("request on %s: %v", subject, err)
	}
	return answer, answer.Header.Get("Nats-Service-Error-Code")
}

// arrives waits for a publish on a topic with this payload; an empty payload matches any.
func (s *site) arrives(topic, payload string) fleetsim.Publish {
	s.t.Helper()
	p, err := s.sim.WaitPublish(s.context(), func(p fleetsim.Publish) bool {
		return p.Topic == topic && (payload == "" || string(p.Payload) == payload)
	})
	if err != nil {
		for _, p := range s.sim.Received() {
			s.t.Logf("received %s %.200s", p.Topic, p.Payload)
		}
		s.t.Fatalf("%s %s did not arrive: %v", topic, payload, err)
	}
	return p
}

// down publishes from the cloud, raw.
func (s *site) down(topic, payload string, o fleetsim.PublishOptions) {
	s.t.Helper()
	if err := s.sim.Publish(topic, []byte(payload), o); err != nil {
		s.t.Fatal(err)
	}
}

// letter waits for a dead letter.
func (s *site) letter(subject string) jetstream.Msg {
	s.t.Helper()
	c, err := s.js.OrderedConsumer(s.context(), "FLEETS_DEAD", jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := c.Next(jetstream.FetchMaxWait(patience))
	if err != nil {
		s.t.Fatalf("no dead letter on %s: %v", subject, err)
	}
	return m
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// statusBucket names the bucket where a prefix of its own puts the status.
func statusBucket(name string) siteOption { return func(o *siteOptions) { o.statusBucket = name } }
