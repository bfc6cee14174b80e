package fleetsim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options of a simulator. The zero value is a cloud with a broker of its own on a free port, an HTTP
// API without authentication on another, and no Things.
type Options struct {
	Log *slog.Logger // one line a flow at info, what clients do wrong at warn; default: none

	// Broker is the URL of an external broker (mqtt, mqtts, ws, wss), which may hold user:password@.
	// Empty: the simulator has its own, configured by Embedded.
	Broker             string
	Username, Password string      // for the external broker
	ClientID           string      // for the external broker; default fleets-simulator
	TLSConfig          *tls.Config // for the external broker
	Embedded           BrokerOptions

	HTTPListen        string       // default 127.0.0.1:0
	HTTPTLS           *Certificate // set: the HTTP API speaks TLS
	APIKey, APISecret string       // both empty: the API lets everybody in
	HTTPFault         *HTTPFault   // as SetHTTPFault, from the start

	Things     []string // registered from the start
	AutoCreate bool     // a Thing that reports or is asked for and is unknown is registered

	// What the protocol leaves open.
	ReplaceReported bool          // a report replaces the reported state; default: RFC 7396 merge
	RepublishDelta  bool          // a report that leaves a delta makes the cloud publish it again
	WholeDesired    bool          // the desired push holds the whole desired state; default: the patch
	StartBumps      bool          // starting a job raises its versionNumber (AWS); default: it stays 1
	TerseUpdates    bool          // an accepted job update holds no executionState unless asked for (AWS)
	Minute          time.Duration // how long a minute of stepTimeoutInMinutes is; default: a minute

	Misbehaviour Misbehaviour
	Keep         int // how many publishes, requests and events a Thing are remembered; default 100,000
}

// Sim is the simulated cloud. Its methods may be called from any goroutine.
type Sim struct {
	options  Options
	log      *slog.Logger
	broker   *Broker // nil when it is external
	wire     wire
	out      outbox
	chaos    chaos
	received recorder

	listener net.Listener
	server   *http.Server
	http     httpState

	cancel context.CancelFunc
	stop   context.Context
	ended  chan struct{} // closed when Run has returned
	once   sync.Once

	monitor
	running    bool
	closed     bool
	timers     map[*time.Timer]struct{}
	things     map[string]*thing
	thingTypes map[string]ThingType
	commands   map[string]*CommandExecution
	jobs       map[string]*job
	violations []Violation
	numbers    int64 // last execution number given out
	answering  bool  // what is sent now waits until the answer is out
	behind     []outgoing
}

// wire is how the cloud reaches its broker.
type wire interface {
	// run keeps the wire up until ctx ends.
	run(ctx context.Context) error
	// ready returns when upward messages arrive.
	ready(ctx context.Context) error
	// address is the broker's, without secrets.
	address() string
	// publish returns when the broker has the message, and reports whether anybody is subscribed. What
	// the wire can mend it retries until ctx ends.
	publish(ctx context.Context, p Publish) (heard bool, err error)
}

// New makes a simulator and opens its ports, so that its addresses are known; it works from Run on.
// Who doesn't call Run must call Close.
func New(o Options) (*Sim, error) {
	if o.Minute == 0 {
		o.Minute = time.Minute
	}
	s := &Sim{
		options: o, log: orDiscard(o.Log), ended: make(chan struct{}), timers: map[*time.Timer]struct{}{},
		things: map[string]*thing{}, thingTypes: map[string]ThingType{}, commands: map[string]*CommandExecution{}, jobs: map[string]*job{},
	}
	s.stop, s.cancel = context.WithCancel(context.Background())
	s.received.keep = o.Keep
	s.SetHTTPFault(o.HTTPFault)
	if err := s.SetMisbehaviour(o.Misbehaviour); err != nil {
		return nil, err
	}
	for _, name := range o.Things {
		if _, err := s.CreateThing(name); err != nil {
			return nil, err
		}
	}
	if err := s.listenHTTP(); err != nil {
		return nil, err
	}
	if err := s.openWire(); err != nil {
		_ = s.listener.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sim) openWire() error {
	if s.options.Broker != "" {
		c, err := newClient(s.options, s.log, s.upward)
		s.wire = c
		return err
	}
	o := s.options.Embedded
	if o.Log == nil {
		o.Log = s.options.Log
	}
	o.Keep = max(o.Keep, s.options.Keep)
	theirs := o.OnPublish
	o.OnPublish = func(p Publish) {
		s.upward(p)
		if theirs != nil {
			theirs(p)
		}
	}
	b, err := NewBroker(o)
	if err != nil {
		return err
	}
	s.broker, s.wire = b, embedded{b}
	return nil
}

// embedded is the wire to the simulator's own broker, whose hook delivers upwards.
type embedded struct{ b *Broker }

func (e embedded) run(ctx context.Context) error { <-ctx.Done(); return nil }

func (e embedded) ready(context.Context) error { return nil }

func (e embedded) address() string { return e.b.URL() }

func (e embedded) publish(_ context.Context, p Publish) (bool, error) { return e.b.Publish(p) }

// Run works until ctx ends or Close is or was called, then closes every port and returns nil. An
// error means that the simulator could not go on, or has run before.
func (s *Sim) Run(ctx context.Context) error {
	s.Lock()
	switch {
	case s.running:
		s.Unlock()
		return errors.New("the simulator has run already, make a new one")
	case s.closed:
		s.Unlock()
		return nil
	}
	s.running = true
	s.Unlock()
	defer close(s.ended)
	defer s.release()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stop, cancel)()

	jobs := []func(context.Context) error{s.wire.run, s.serveHTTP, func(ctx context.Context) error { return s.out.run(ctx, s) }}
	failed := make(chan error, len(jobs))
	var all sync.WaitGroup
	for _, job := range jobs {
		all.Go(func() {
			if err := job(ctx); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	s.log.Info("simulator runs", "broker", s.wire.address(), "http", s.HTTPURL(), "things", len(s.options.Things))
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// release closes what New opened.
func (s *Sim) release() {
	s.once.Do(func() {
		s.Lock()
		s.closed = true
		for t := range s.timers {
			t.Stop()
		}
		s.Unlock()
		_ = s.server.Close()
		_ = s.listener.Close()
		if s.broker != nil {
			_ = s.broker.Close()
		}
	})
}

// Close ends Run, waits for it, and closes every port. It may be called twice.
func (s *Sim) Close() error {
	s.cancel()
	s.Lock()
	running := s.running
	s.closed = true
	s.Unlock()
	if running {
		<-s.ended
	}
	s.release()
	return nil
}

// Start makes a simulator, runs it until the test ends, and returns when it is ready. It fails the
// test when it cannot.
func Start(t T, o Options) *Sim {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatalf("simulator: %v", err)
	}
	result := make(chan error, 1)
	go func() { result <- s.Run(context.Background()) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-result; err != nil {
			t.Errorf("simulator: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatalf("simulator: %v", err)
	}
	return s
}

// WaitReady returns when what clients publish reaches the simulator; with an external broker that is
// after it has connected and subscribed.
func (s *Sim) WaitReady(ctx context.Context) error { return s.wire.ready(ctx) }

// Broker is the embedded broker, nil when it is external.
func (s *Sim) Broker() *Broker { return s.broker }

// BrokerURL is where clients connect.
func (s *Sim) BrokerURL() string {
	if s.broker != nil {
		return s.broker.URL()
	}
	return s.options.Broker
}

// after runs f, with the simulator locked, once d has passed and unless the simulator is closed by
// then. The lock must be held.
func (s *Sim) after(d time.Duration, f func()) *time.Timer {
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		s.Lock()
		defer s.Unlock()
		if _, due := s.timers[t]; !due || s.closed {
			return
		}
		delete(s.timers, t)
		f()
		s.notify()
	})
	s.timers[t] = struct{}{}
	return t
}

// forget takes a timer back. The lock must be held.
func (s *Sim) forget(t *time.Timer) {
	if t != nil {
		t.Stop()
		delete(s.timers, t)
	}
}

// PublishOptions change how a raw message is published; the zero value is QoS 1, not retained.
type PublishOptions struct {
	AtMostOnce bool // QoS 0
	Retain     bool
	User       []UserProperty
}

// Publish sends a raw message downwards, past every check and misbehaviour, and returns when the
// broker has it. With an external broker it waits for at most 30 seconds.
func (s *Sim) Publish(topic string, payload []byte, o PublishOptions) error {
	p := Publish{Topic: topic, Payload: payload, QoS: 1, Retain: o.Retain, User: o.User}
	if o.AtMostOnce {
		p.QoS = 0
	}
	ctx, cancel := context.WithTimeout(s.stop, 30*time.Second)
	defer cancel()
	if _, err := s.wire.publish(ctx, p); err != nil {
		return fmt.Errorf("publish to %q: %w", topic, err)
	}
	return nil
}

// WaitSent returns when the broker has everything that the simulator has to send, but for answers
// that a misbehaviour makes late.
func (s *Sim) WaitSent(ctx context.Context) error { return s.out.idle(ctx) }

// Received returns what clients published upwards and the broker took, oldest first.
func (s *Sim) Received() []Publish { return s.received.all() }

// WaitPublish returns the first upward PUBLISH, past or future, that match accepts. match must not
// call the simulator.
func (s *Sim) WaitPublish(ctx context.Context, match func(Publish) bool) (Publish, error) {
	return s.received.wait(ctx, match)
}
