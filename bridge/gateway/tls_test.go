package gateway_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/fleetsim"
	"fleetbridge/test/brokers"
)

// simOnly is for tests that need to see or set up at the broker what only the simulator's lets them. They run with every plain go test;
// a run against a real broker is about something else.
func simOnly(t *testing.T) {
	t.Helper()
	if _, is := brokers.Find(*brokerFlag); is {
		t.Skip("the simulator's own broker shows it")
	}
}

// Each Thing shows its own certificate, or that of mqtt.tls. Renewed files are used from the next
// connection on, and neither the session nor what is queued notices.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	simOnly(t)
	a := newAuthority(t)
	broker, shared, own := a.issue("broker", nextYear()), a.issue("shared", nextYear()), a.issue("own", nextYear())
	sim := fleetsim.Start(t, fleetsim.Options{Things: []string{"pump-07", "valve-3"}})
	f := newFront(t, sim.BrokerURL(), &tls.Config{Certificates: []tls.Certificate{a.load(broker)}, ClientCAs: a.pool(), ClientAuth: tls.RequireAndVerifyClientCert})
	s := open(t, things("pump-07", "valve-3"), withoutAPI(), expect("connection lost"), edit(func(c *gateway.Config) {
		c.MQTT.Server = []string{f.url}
		c.MQTT.TLS = gateway.TLS{CAFile: a.file, CertFile: shared.cert, KeyFile: shared.key}
		c.Things[1].TLS = gateway.KeyPair{CertFile: own.cert, KeyFile: own.key}
	}))
	s.sim = sim
	names := map[string]*x509.Certificate{}
	for _, c := range f.wait(2) {
		names[c.Subject.CommonName] = c
	}
	if len(names) != 2 || names["own"] == nil || names["shared"] == nil {
		t.Fatalf("certificates of %v", names)
	}
	s.shows("/metrics", 200, `fleetbridge_certificate_expiry_timestamp_seconds{file="`+own.cert+`",use="things.tls.cert_file"}`)
	a.issue("own", nextYear())
	f.cut()
	for _, c := range f.wait(4)[2:] {
		if c.Subject.CommonName == "own" && c.Equal(names["own"]) || c.Subject.CommonName == "shared" && !c.Equal(names["shared"]) {
			t.Errorf("%s: the certificate is the old one: %t", c.Subject.CommonName, c.Equal(names["own"]))
		}
	}
	s.status("valve-3", func(status string) bool {
		return strings.Contains(status, `"subscribed":true`) && strings.Contains(status, `"sessionPresent":true`)
	})
	s.publish("fleets.up.valve-3.events.n", event(0))
	s.arrives("$emqx/things/valve-3/events/n", "")
}

// A half-written renewal leaves what was there in force; the rest of it is used.
func TestBrokenRenewal(t *testing.T) {
	t.Parallel()
	simOnly(t)
	a := newAuthority(t)
	broker, own := a.issue("broker", nextYear()), a.issue("own", nextYear())
	sim := fleetsim.Start(t, fleetsim.Options{Things: []string{"pump-07"}})
	f := newFront(t, sim.BrokerURL(), &tls.Config{Certificates: []tls.Certificate{a.load(broker)}, ClientCAs: a.pool(), ClientAuth: tls.RequireAndVerifyClientCert})
	s := open(t, withoutAPI(), expect("connection lost", "can't be used"), edit(func(c *gateway.Config) {
		c.MQTT.Server = []string{f.url}
		c.MQTT.TLS = gateway.TLS{CAFile: a.file, CertFile: own.cert, KeyFile: own.key}
	}))
	s.sim = sim
	before := f.wait(1)[0]
	key, err := os.ReadFile(own.key)
	if err != nil {
		t.Fatal(err)
	}
	a.issue("own", nextYear())
	whole, err := os.ReadFile(own.key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, own.key, key) // the new certificate beside the old key
	s.waitQuestions(1)         // else it was not sent
	f.cut()
	if c := f.wait(2)[1]; !c.Equal(before) {
		t.Error("another certificate than the last good one")
	}
	s.waitQuestions(2) // the new connection works; the status may still be that of the one before
	writeFile(t, own.key, whole)
	f.cut()
	if c := f.wait(3)[2]; c.Equal(before) {
		t.Error("still the old certificate")
	}
}

// What is wrong with a certificate is said in the status, with the mend.
func TestTLSRefused(t *testing.T) {
	t.Parallel()
	simOnly(t)
	a, other := newAuthority(t), newAuthority(t)
	good := a.issue("good", nextYear())
	for name, c := range map[string]struct {
		server *tls.Config
		client gateway.TLS
		want   string
	}{
		"wrong authority":      {&tls.Config{Certificates: []tls.Certificate{a.load(good)}}, gateway.TLS{CAFile: other.file}, "set mqtt.tls.ca_file"},
		"system's authorities": {&tls.Config{Certificates: []tls.Certificate{a.load(good)}}, gateway.TLS{}, "set mqtt.tls.ca_file"},
		"wrong name": {&tls.Config{Certificates: []tls.Certificate{a.load(a.issue("host", nextYear(), "broker.example.com"))}},
			gateway.TLS{CAFile: a.file}, "mqtt.tls.server_name"},
		"expired": {&tls.Config{Certificates: []tls.Certificate{a.load(a.issue("late", time.Now().Add(-time.Minute)))}},
			gateway.TLS{CAFile: a.file}, "renew the server's certificate"},
		"no client certificate": {&tls.Config{Certificates: []tls.Certificate{a.load(good)}, ClientCAs: a.pool(), ClientAuth: tls.RequireAndVerifyClientCert},
			gateway.TLS{CAFile: a.file}, "set mqtt.tls.cert_file and key_file"},
		"stranger's client certificate": {&tls.Config{Certificates: []tls.Certificate{a.load(good)}, ClientCAs: other.pool(), ClientAuth: tls.RequireAndVerifyClientCert},
			gateway.TLS{CAFile: a.file, CertFile: good.cert, KeyFile: good.key}, "refuses this client's certificate"},
		"no TLS there": {&tls.Config{}, gateway.TLS{CAFile: a.file}, "is that its TLS port?"},
	} {
		t.Run(name, func(t *testing.T) {
			config := c.server
			if len(config.Certificates) == 0 {
				config = nil
			}
			sim := fleetsim.Start(t, fleetsim.Options{Things: []string{"pump-07"}})
			f := newFront(t, sim.BrokerURL(), config)
			s := open(t, startCut(), withoutAPI(), expect("cannot connect"), edit(func(cfg *gateway.Config) {
				cfg.MQTT.Server = []string{strings.Replace(f.url, "mqtt://", "mqtts://", 1)}
				cfg.MQTT.TLS = c.client
			}))
			s.status("pump-07", func(status string) bool { return strings.Contains(status, c.want) })
			s.shows("/readyz", 503, c.want)
		})
	}
}

// server_name stands in for the host.
func TestServerName(t *testing.T) {
	t.Parallel()
	simOnly(t)
	a := newAuthority(t)
	sim := fleetsim.Start(t, fleetsim.Options{Things: []string{"pump-07"}})
	f := newFront(t, sim.BrokerURL(), &tls.Config{Certificates: []tls.Certificate{a.load(a.issue("host", nextYear(), "broker.example.com"))}})
	open(t, withoutAPI(), edit(func(c *gateway.Config) {
		c.MQTT.Server = []string{f.url}
		c.MQTT.TLS = gateway.TLS{CAFile: a.file, ServerName: "broker.example.com"}
	}))
}

// Programs speak TLS with the embedded server and, with ca_file, show a certificate of that authority. The
// person on the gateway gets in with the server's own files.
func TestListenerTLS(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	listener, program := a.issue("listener", nextYear()), a.issue("program", nextYear())
	s := open(t, withoutAPI(), expect("TLS handshake failed"), edit(func(c *gateway.Config) {
		c.NATS.Embedded.TLS = gateway.ListenTLS{CertFile: listener.cert, KeyFile: listener.key, CAFile: a.file}
	}), dialWith(nats.RootCAs(a.file), nats.ClientCert(program.cert, program.key)))
	if !strings.HasPrefix(s.gw.NATSURL(), "tls://") {
		t.Errorf("URL %s", s.gw.NATSURL())
	}
	s.publish("fleets.up.pump-07.events.n", event(0))
	s.arrives("$emqx/things/pump-07/events/n", "")

	stranger := other.issue("stranger", nextYear())
	for name, options := range map[string][]nats.Option{
		"without a certificate":  {nats.RootCAs(a.file)},
		"a stranger's":           {nats.RootCAs(a.file), nats.ClientCert(stranger.cert, stranger.key)},
		"another server's trust": {nats.RootCAs(other.file), nats.ClientCert(program.cert, program.key)},
	} {
		if nc, err := nats.Connect(s.gw.NATSURL(), options...); err == nil {
			nc.Close()
			t.Errorf("%s: let in", name)
		}
	}
	if nc, err := nats.Connect(strings.Replace(s.gw.NATSURL(), "tls:", "nats:", 1)); err == nil {
		nc.Close()
		t.Error("let in without TLS")
	}

	cfg := *s.cfg
	cfg.NATS.Embedded.Listen = strings.TrimPrefix(s.gw.NATSURL(), "tls://")
	dial, err := cfg.OperatorDial()
	if err != nil {
		t.Fatal(err)
	}
	dial.Log = s.log
	operator, err := wire.Dial(s.context(), dial)
	if err != nil {
		t.Fatalf("fleetbridge dead: %v", err)
	}
	operator.Close()

	a.issue("listener", nextYear())
	want := a.load(listener).Leaf
	renewed, err := nats.Connect(s.gw.NATSURL(), nats.RootCAs(a.file), nats.ClientCert(program.cert, program.key))
	if err != nil {
		t.Fatal(err)
	}
	defer renewed.Close()
	if state, err := renewed.TLSConnectionState(); err != nil || !state.PeerCertificates[0].Equal(want) {
		t.Errorf("the renewed certificate is not shown: %v", err)
	}
	if !s.nc.IsConnected() || s.nc.Stats().Reconnects > 0 {
		t.Error("the renewal has ended a connection")
	}
}

// The Fleets API is verified, too, and a renewed authority is used with the next request.
func TestFleetsTLS(t *testing.T) {
	t.Parallel()
	certificate, err := fleetsim.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t)
	ca := t.TempDir() + "/fleets.pem"
	stranger, err := os.ReadFile(a.file)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, ca, stranger)
	s := open(t, startCut(), expect("cannot connect", "shadow not fetched"), cloud(func(o *fleetsim.Options) { o.HTTPTLS = certificate }),
		edit(func(c *gateway.Config) { c.Fleets.TLS.CAFile = ca }))
	if !strings.HasPrefix(s.cfg.Fleets.URL, "https:") {
		t.Fatalf("the API is at %s", s.cfg.Fleets.URL)
	}
	answer, code := s.request("fleets.req.pump-07.shadow.get", "")
	if code != "503" || !strings.Contains(string(answer.Data), "set fleets.tls.ca_file") {
		t.Errorf("got %s %s", code, answer.Data)
	}
	writeFile(t, ca, certificate.PEM)
	if answer, code := s.request("fleets.req.pump-07.shadow.get", ""); code != "" {
		t.Errorf("after the renewal: %s %s", code, answer.Data)
	}
}

// nats.tls reads its files anew at each connection.
func TestExternalNATSWithTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	own, bridge := a.issue("nats", nextYear()), a.issue("bridge", nextYear())
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{a.load(own)}, ClientCAs: a.pool(), ClientAuth: tls.RequireAndVerifyClientCert}, TLSTimeout: 10})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	s := open(t, withoutAPI(), edit(func(c *gateway.Config) {
		c.NATS.URL = gateway.NATSURL(ns.ClientURL())
		c.NATS.TLS = gateway.TLS{CAFile: a.file, CertFile: bridge.cert, KeyFile: bridge.key}
	}), dialWith(nats.RootCAs(a.file), nats.ClientCert(bridge.cert, bridge.key)))
	s.publish("fleets.up.pump-07.events.n", event(0))
	s.arrives("$emqx/things/pump-07/events/n", "")
}
