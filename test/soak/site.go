package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// Site is a whole gateway: the cloud, a real broker, what stands in between, a bridge in this process,
// and programs.
//
//	bridge ── Link ── Wire ── mosquitto ── Cloud, Sim
type Site struct {
	*World
	Mosquitto *fleetsim.Mosquitto
	Sim       *fleetsim.Sim
	Cloud     *Cloud
	Wire      *Wire
	Link      *fleetsim.Link
	Config    *gateway.Config
	Log       *Logbook
	Gateway   *gateway.Gateway
	NATSLink  *fleetsim.Link // with SiteOptions.NATS

	o        SiteOptions
	natsURL  string // where programs connect
	nc       *nats.Conn
	js       jetstream.JetStream
	halt     func() error // ends the bridge
	hearing  context.CancelFunc
	hearers  sync.WaitGroup
	load     *load
	arrivals arrivals
	doomed   letter // that shall die, if any
	down     uint64 // sequence of the last message read of FLEETS_DOWN
	dead     uint64 // and of FLEETS_DEAD

	gone   signal
	goneAt time.Time // when FLEETS_STATUS last said that the first Thing is not connected
}

// SiteOptions say what a site is made of.
type SiteOptions struct {
	Things int  // default 1
	Cut    bool // the link is cut at the start
	// Forgetful is for a broker that loses its sessions: what goes up counts as arrived when the broker
	// acknowledges it, and nothing goes down, as the broker itself would lose it.
	Forgetful bool
	Broker    []string // lines of mosquitto's configuration
	API       bool     // with the Fleets HTTP API
	// NATS is for an external server, with a link of its own between it and the bridge. Programs connect
	// to it directly.
	NATS bool
	Edit func(*gateway.Config)
}

// mosquitto starts a broker. The simulator's own can't judge here: it may itself lose messages when a
// session is resumed. Where mosquitto is not installed the scenario is skipped, unless -broker
// mosquitto, which CI gives, says that it has to run.
func (w *World) mosquitto(o fleetsim.MosquittoOptions) *fleetsim.Mosquitto {
	w.Helper()
	m, err := fleetsim.NewMosquitto(w.Context(), o)
	if errors.Is(err, fleetsim.ErrNoMosquitto) && *brokerFlag != realBroker {
		w.Skip("needs mosquitto, which is not installed")
	}
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = m.Close() })
	return m
}

// Open makes a site and returns when the bridge is ready, or, if the link is cut, when programs can
// connect.
func (w *World) Open(o SiteOptions) *Site {
	w.Helper()
	o.Things = max(o.Things, 1)
	s := &Site{World: w, o: o, Log: &Logbook{}, arrivals: arrivals{highest: map[string]uint64{}}}
	// It writes its store when it stops. After each change, as it would otherwise, it is too slow for this.
	lines := append([]string{"autosave_interval 0"}, o.Broker...)
	s.Mosquitto = w.mosquitto(fleetsim.MosquittoOptions{Persistence: !o.Forgetful, Lines: lines})
	var names []string
	for i := range o.Things {
		names = append(names, fmt.Sprintf("pump-%02d", i+1))
	}
	s.Sim = fleetsim.Start(w, fleetsim.Options{Broker: s.Mosquitto.URL(), Things: names, APIKey: "ak_soak", APISecret: "secret"})
	cloud, err := NewCloud(s.Mosquitto.URL(), "cloud", s.heardUp)
	s.check(err)
	w.Cleanup(cloud.Close)
	s.Cloud = cloud
	s.check(cloud.Ready(w.Context()))
	if o.Forgetful {
		s.Wire, err = NewWire(s.Mosquitto.URL(), s.came)
	} else {
		s.Wire, err = NewWire(s.Mosquitto.URL(), nil)
	}
	s.check(err)
	w.Cleanup(s.Wire.Close)
	s.Link, err = fleetsim.NewLink(s.Wire.URL())
	s.check(err)
	w.Cleanup(func() { _ = s.Link.Close() })
	if o.Cut {
		s.Link.Cut()
	}
	s.configure(names)
	w.Cleanup(func() {
		if w.Failed() {
			w.Logf("the bridge's log:\n%s", s.Log.Tail())
		}
	})
	w.Cleanup(func() { _ = s.Stop() })
	s.Start()
	s.connectPrograms()
	if !o.Cut {
		s.Ready()
	}
	return s
}

func (s *Site) configure(names []string) {
	s.Config = gateway.Default()
	s.Config.MQTT.Server = []string{s.Link.URL()}
	for _, name := range names {
		s.Config.Things = append(s.Config.Things, gateway.Thing{Name: name, ClientID: name})
	}
	if s.o.API {
		s.Config.Fleets = gateway.Fleets{URL: s.Sim.HTTPURL(), APIKey: "ak_soak", APISecret: "secret"}
	}
	s.Config.NATS.Embedded.Listen = freeAddress(s.T) // the same over restarts, so that programs reconnect by themselves
	s.Config.NATS.Embedded.StoreDir = s.TempDir()
	s.Config.NATS.Embedded.Sync = gateway.Sync{Interval: time.Minute} // the disk has scenarios of its own
	s.Config.HTTP.Listen = "127.0.0.1:0"
	if s.o.NATS {
		s.startNATS()
	}
	if s.o.Edit != nil {
		s.o.Edit(s.Config)
	}
}

// check ends the round on an error.
func (s *Site) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// Start runs the bridge and returns when programs can connect.
func (s *Site) Start() {
	s.Helper()
	gw, err := gateway.New(s.Config, gateway.Build{Version: "0.0.0"}, slog.New(slog.NewTextHandler(s.Log, nil)))
	s.check(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- gw.Run(ctx) }()
	var once sync.Once
	s.halt = func() (err error) {
		once.Do(func() { cancel(); err = <-ended })
		return err
	}
	select {
	case <-gw.Listening():
	case err := <-ended:
		ended <- err
		s.Fatalf("the bridge did not start: %v", err)
	case <-s.Context().Done():
		s.Fatal("the bridge did not start in time")
	}
	s.Gateway = gw
	if s.js != nil {
		s.listen()
	}
}

// Stop ends the bridge as a signal would.
func (s *Site) Stop() error {
	if s.hearing != nil {
		s.hearing()
		s.hearers.Wait()
	}
	if s.halt == nil {
		return nil
	}
	return s.halt()
}

// connectPrograms connects once for the site's life; the library reconnects after a restart.
func (s *Site) connectPrograms() {
	if s.natsURL == "" {
		s.natsURL = s.Gateway.NATSURL()
	}
	nc, err := nats.Connect(s.natsURL, nats.Name("programs"), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0))
	s.check(err)
	s.Cleanup(nc.Close)
	s.nc = nc
	s.js, err = jetstream.New(nc)
	s.check(err)
	s.listen()
}

// listen reads what the bridge stored for programs, and the dead letters, from where it stopped.
func (s *Site) listen() {
	ctx, cancel := context.WithCancel(s.Context())
	s.hearing = cancel
	for stream, last := range map[string]*uint64{"FLEETS_DOWN": &s.down, "FLEETS_DEAD": &s.dead} {
		config := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: *last + 1}
		var messages jetstream.MessagesContext
		for { // programs may still be connecting
			short, cancel := context.WithTimeout(ctx, time.Second) // a question may go down with a connection
			c, err := s.js.OrderedConsumer(short, stream, config)
			cancel()
			if err == nil {
				messages, err = c.Messages()
			}
			if err == nil {
				break
			}
			if s.Context().Err() != nil {
				s.Fatalf("%s: %v", stream, err)
			}
			s.Pause(20 * time.Millisecond)
		}
		s.hearers.Go(func() {
			<-ctx.Done()
			messages.Stop()
		})
		s.hearers.Go(func() {
			for {
				m, err := messages.Next()
				if err != nil {
					return
				}
				s.heardDown(m, last)
			}
		})
	}
	s.watchStatus(ctx)
}

// watchStatus notes when the first Thing's connection is lost.
func (s *Site) watchStatus(ctx context.Context) {
	kv, err := s.js.KeyValue(ctx, "FLEETS_STATUS")
	s.check(err)
	watcher, err := kv.Watch(ctx, mapping.Token(s.Config.Things[0].Name))
	s.check(err)
	s.hearers.Go(func() {
		for {
			select {
			case <-ctx.Done():
				_ = watcher.Stop()
				return
			case e := <-watcher.Updates():
				if e != nil && strings.Contains(string(e.Value()), `"connected":false`) {
					s.gone.Lock()
					s.goneAt = time.Now()
					s.gone.notify()
					s.gone.Unlock()
				}
			}
		}
	})
}

var subjects, _ = mapping.NewSubjects("fleets")

// heardDown takes a message of FLEETS_DOWN or FLEETS_DEAD.
func (s *Site) heardDown(m jetstream.Msg, last *uint64) {
	meta, err := m.Metadata()
	if err != nil {
		s.Errorf("%s: %v", m.Subject(), err)
		return
	}
	*last = meta.Sequence.Stream
	subject, dead := m.Subject(), false
	for _, space := range []string{"up", "down"} {
		if rest, found := strings.CutPrefix(subject, "fleets.dead."+space+"."); found {
			subject, dead = "fleets."+space+"."+rest, true
		}
	}
	_, address, err := subjects.Parse(subject)
	if err != nil {
		return
	}
	lane, n, ok := number(address, m.Data())
	switch {
	case !ok:
	case dead:
		s.Ledger.Died(lane, n)
		s.arrivals.bury(lane, n)
		s.arrivals.note(lane, n)
	default:
		s.Ledger.Arrived(lane, n)
		s.arrivals.note(lane, n)
	}
}

// heardUp takes what the cloud got from the broker.
func (s *Site) heardUp(p *packets.Publish) {
	if !s.o.Forgetful {
		s.came(p)
	}
}

// came takes what has arrived: at the cloud, or, if the broker forgets it, at the broker that acknowledged it.
func (s *Site) came(p *packets.Publish) {
	address, err := mapping.ParseTopic(mapping.Up, p.Topic)
	if err != nil {
		return
	}
	lane, n, ok := number(address, p.Payload)
	if !ok {
		return
	}
	if strings.HasPrefix(lane, "command/") {
		s.load.answered(lane+" "+address.ID, p.Payload)
	}
	if p.Duplicate && !s.o.Forgetful && n <= s.arrivals.last(lane) {
		return // the broker repeats itself to the cloud, the bridge has no part in that
	}
	s.Ledger.Arrived(lane, n)
	s.arrivals.note(lane, n)
}

// Ready waits until every Thing is connected and subscribed.
func (s *Site) Ready() {
	s.Helper()
	s.waitReady(true, patience)
}

// NotReady waits until the stall that began then shows: /readyz answers 503, and the Thing's status
// says that it is not connected. That may take no longer than most.
func (s *Site) NotReady(began time.Time, most time.Duration) {
	s.Helper()
	s.waitReady(false, most-time.Since(began))
	ctx, cancel := context.WithDeadline(s.Context(), began.Add(most+time.Second))
	defer cancel()
	if s.gone.wait(ctx, func() bool { return s.goneAt.After(began) }) != nil {
		s.Fatalf("/readyz says 503, the status says %s", s.Status())
	}
}

func (s *Site) waitReady(want bool, most time.Duration) {
	s.Helper()
	for began := time.Now(); ; s.Pause(20 * time.Millisecond) {
		code, body := s.Get("/readyz")
		if (code == http.StatusOK) == want {
			return
		}
		if time.Since(began) > most {
			s.Fatalf("after %v /readyz still answers %d %s", most, code, body)
		}
	}
}

// Get fetches a page of the bridge's.
func (s *Site) Get(path string) (int, string) {
	s.Helper()
	r, err := http.Get("http://" + s.Gateway.HTTPAddr() + path)
	s.check(err)
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	s.check(err)
	return r.StatusCode, string(body)
}

// Status is the first Thing's entry in FLEETS_STATUS.
func (s *Site) Status() string {
	s.Helper()
	kv, err := s.js.KeyValue(s.Context(), "FLEETS_STATUS")
	s.check(err)
	e, err := kv.Get(s.Context(), mapping.Token(s.Config.Things[0].Name))
	s.check(err)
	return string(e.Value())
}
