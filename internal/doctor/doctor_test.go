package doctor_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local/storedir"
	"fleetbridge/fleetsim"
	"fleetbridge/internal/doctor"
)

// patience is how long a test waits for what should happen at once; a machine that is busy besides needs some of it.
const patience = 30 * time.Second

// clinic is a cloud and a configuration for it.
type clinic struct {
	t   *testing.T
	sim *fleetsim.Sim
	cfg *gateway.Config
}

func open(t *testing.T, edit ...func(*fleetsim.Options)) *clinic {
	t.Helper()
	o := fleetsim.Options{Things: []string{"pump-07"}, APIKey: "ak_test", APISecret: "secret-of-the-api"}
	for _, f := range edit {
		f(&o)
	}
	c := &clinic{t: t, sim: fleetsim.Start(t, o), cfg: gateway.Default()}
	c.cfg.MQTT.Server = []string{c.sim.BrokerURL()}
	c.cfg.Things = []gateway.Thing{{Name: "pump-07", ClientID: "pump-07"}}
	c.cfg.Fleets = gateway.Fleets{URL: c.sim.HTTPURL(), APIKey: "ak_test", APISecret: "secret-of-the-api"}
	c.cfg.NATS.Embedded.Listen = "127.0.0.1:0"
	c.cfg.NATS.Embedded.StoreDir = filepath.Join(t.TempDir(), "store")
	c.cfg.HTTP.Listen = ""
	c.cfg.NATS.Up.MaxBytes, c.cfg.NATS.Down.MaxBytes = 1<<20, 1<<20
	return c
}

// examine returns every finding, a line each.
func (c *clinic) examine(o doctor.Options) (lines []string, healthy bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*patience)
	defer cancel()
	d, err := doctor.New(c.cfg, o, func(f doctor.Finding) {
		lines = append(lines, f.String())
		if f.Status == doctor.Fail && f.Mend == "" {
			c.t.Errorf("no mend: %s", f)
		}
	})
	if err != nil {
		c.t.Fatal(err)
	}
	healthy = d.Run(ctx)
	return lines, healthy
}

// has looks for a line that begins with a status and a check, and contains the words.
func has(t *testing.T, lines []string, status doctor.Status, check string, words ...string) {
	t.Helper()
next:
	for _, line := range lines {
		f := strings.Fields(line)
		if f[0] != string(status) || f[1] != check {
			continue
		}
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		return
	}
	t.Errorf("no line %s %s with %q in:\n%s", status, check, words, strings.Join(lines, "\n"))
}

// A Thing Type that the API does not give is a warning: its Things work.
func TestThingTypes(t *testing.T) {
	c := open(t)
	c.cfg.Things[0].TypeName = "com.acme.pump"
	lines, healthy := c.examine(doctor.Options{})
	has(t, lines, doctor.Warn, "api", `com.acme.pump: Thing Type "com.acme.pump" is not in Fleets`, "by the last known one")
	if !healthy {
		t.Error("not healthy")
	}
	if _, err := c.sim.SetThingType([]byte(`{"name":"com.acme.pump","schema":{"properties":{}}}`)); err != nil {
		t.Fatal(err)
	}
	lines, _ = c.examine(doctor.Options{})
	has(t, lines, doctor.OK, "api", "com.acme.pump: this Thing Type can be read")
}

func TestHealthy(t *testing.T) {
	c := open(t)
	lines, healthy := c.examine(doctor.Options{})
	for _, line := range lines {
		if f := strings.Fields(line)[0]; f == "fail" || f == "warn" && !strings.Contains(line, "fsync") {
			t.Error(line)
		}
	}
	if !healthy {
		t.Error("not healthy")
	}
	order := []string{"config", "secrets", "bridge", "dns", "tcp", "tls", "clock", "connect", "subscribe", "publish", "session", "queues", "api", "nats", "jetstream", "disk", "fsync"}
	at := 0
	for _, line := range lines {
		check := strings.Fields(line)[1]
		for at < len(order) && order[at] != check {
			at++
		}
	}
	if at == len(order) {
		t.Errorf("not in order %v:\n%s", order, strings.Join(lines, "\n"))
	}
	has(t, lines, doctor.OK, "subscribe", "$emqx/commands/things/pump-07/executions/+/request", "QoS 1")
	has(t, lines, doctor.OK, "publish", "jobs/get is answered")
	has(t, lines, doctor.OK, "session", "none yet")
	has(t, lines, doctor.OK, "clock", "agrees")
	has(t, lines, doctor.OK, "jetstream", "gives it back")
	if _, err := os.Stat(c.cfg.NATS.Embedded.StoreDir); !os.IsNotExist(err) {
		t.Errorf("the store directory was made: %v", err)
	}
	for _, p := range c.sim.Received() {
		if p.Topic != "$emqx/things/pump-07/jobs/get" {
			t.Errorf("published %s", p.Topic)
		}
	}
	if rest, _ := filepath.Glob(filepath.Join(filepath.Dir(c.cfg.NATS.Embedded.StoreDir), "doctor-*")); len(rest) > 0 {
		t.Errorf("left behind: %v", rest)
	}
}

// What waits in a session is there after the doctor as before, and reaches the bridge once it runs.
func TestQueuedMessagesSurvive(t *testing.T) {
	c := open(t)
	c.cfg.Commands.HandlerWait = 10 * time.Millisecond
	c.cfg.NATS.Embedded.Listen = fleetsim.Address(t)
	runFor(t, c.cfg, func(ctx context.Context) { firstAnswer(ctx, t, c.cfg.NATS.Embedded.Listen) })
	var ids []string
	for range 3 {
		id, err := c.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "dance", TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := c.sim.WaitSent(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		lines, healthy := c.examine(doctor.Options{})
		has(t, lines, doctor.OK, "session", "kept by the broker, with at least 3 messages that wait")
		has(t, lines, doctor.Skip, "publish", "messages wait")
		if !healthy {
			t.Error(strings.Join(lines, "\n"))
		}
	}
	for _, id := range ids {
		if x, err := c.sim.Command(id); err != nil || x.Final() {
			t.Fatalf("before the bridge runs: %+v %v", x, err)
		}
	}
	runFor(t, c.cfg, func(ctx context.Context) {
		for _, id := range ids {
			if x, err := c.sim.WaitCommand(ctx, id); err != nil || x.Status != "REJECTED" || len(x.Responses) != 1 {
				t.Errorf("%+v %v", x, err)
			}
		}
	})
}

// A bridge that runs keeps its sessions: the doctor asks it instead.
func TestRunningBridge(t *testing.T) {
	for name, users := range map[string][]gateway.User{
		"everybody": nil,
		"users":     {{Name: "hvac", Password: "x", Things: []string{"pump-07"}, Allow: []string{gateway.AllowReport}}},
	} {
		t.Run(name, func(t *testing.T) { runningBridge(t, users) })
	}
}

func runningBridge(t *testing.T, users []gateway.User) {
	c := open(t)
	c.cfg.Local.Users = users
	c.cfg.HTTP.Listen, c.cfg.NATS.Embedded.Listen = fleetsim.Address(t), fleetsim.Address(t)
	runFor(t, c.cfg, func(ctx context.Context) {
		c.settled(ctx)
		lines, healthy := c.examine(doctor.Options{})
		if !healthy {
			t.Error(strings.Join(lines, "\n"))
		}
		has(t, lines, doctor.OK, "bridge", "is running", "locked", "/readyz says ready")
		has(t, lines, doctor.OK, "connect", "pump-07", "skipped: fleetbridge is running", "connected since")
		has(t, lines, doctor.OK, "subscribe", "every filter")
		has(t, lines, doctor.OK, "publish", "through the running fleetbridge")
		has(t, lines, doctor.OK, "queues", "FLEETS_UP_CONTROL")
		has(t, lines, doctor.OK, "nats", "nats-server")
		if !c.sim.Broker().Connected("pump-07") {
			t.Error("the bridge lost its connection")
		}
		c.sim.Broker().DenyPublish("$emqx/things/pump-07/jobs/get", 0x87)
		lines, _ = c.examine(doctor.Options{})
		has(t, lines, doctor.Fail, "publish", "pump-07: jobs/get through the running fleetbridge: ", "→ ")
	})
}

// settled waits until the bridge's own word is that it works, which is what the doctor goes by: the broker knows of it
// earlier.
func (c *clinic) settled(ctx context.Context) {
	c.t.Helper()
	login, err := storedir.OperatorLogin(c.cfg.NATS.Embedded.StoreDir) // nothing without users
	if err != nil {
		c.t.Fatal(err)
	}
	url := string(c.cfg.NATS.URL)
	if url == "" {
		url = "nats://" + c.cfg.NATS.Embedded.Listen
	}
	nc, err := nats.Connect(url, login)
	if err != nil {
		c.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		c.t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, "FLEETS_STATUS")
	if err != nil {
		c.t.Fatal(err)
	}
	w, err := kv.Watch(ctx, "pump-07")
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = w.Stop() }()
	last := ""
	for !strings.Contains(last, `"subscribed":true`) || !strings.Contains(last, `"shadow":"known"`) {
		select {
		case e := <-w.Updates():
			if e != nil {
				last = string(e.Value())
			}
		case <-ctx.Done():
			c.t.Fatalf("the bridge's status stayed %s", last)
		}
	}
	for c.cfg.HTTP.Listen != "" && !c.ready(ctx) {
		select {
		case <-time.After(20 * time.Millisecond): // a page has to be asked for again
		case <-ctx.Done():
			c.t.Fatal("/readyz does not say ready")
		}
	}
}

func (c *clinic) ready(ctx context.Context) bool {
	c.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.cfg.HTTP.Listen+"/readyz", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// What the running bridge can't reach is not asked for through it.
func TestRunningBridgeWithoutABroker(t *testing.T) {
	c := open(t)
	c.cfg.MQTT.Server = []string{"mqtt://" + fleetsim.Address(t)}
	c.cfg.NATS.Embedded.Listen = fleetsim.Address(t)
	runFor(t, c.cfg, func(context.Context) {
		lines, healthy := c.examine(doctor.Options{})
		if healthy {
			t.Error("healthy")
		}
		has(t, lines, doctor.OK, "bridge", "is running", "locked")
		for _, check := range []string{"subscribe", "publish", "session"} {
			has(t, lines, doctor.Skip, check, "pump-07: needs connect")
		}
	}, fleetsim.Expect("cannot connect"))
}

func TestRefusals(t *testing.T) {
	c := open(t, func(o *fleetsim.Options) {
		o.Embedded.Logins = []fleetsim.Login{{ClientID: "pump-07", Username: "pump", Password: "right"}}
	})
	lines, healthy := c.examine(doctor.Options{})
	if healthy {
		t.Error("healthy")
	}
	has(t, lines, doctor.Fail, "connect", "pump-07", "check things[]")
	has(t, lines, doctor.Skip, "subscribe", "needs connect")
	has(t, lines, doctor.Skip, "session", "needs connect")
	has(t, lines, doctor.OK, "api")

	c.cfg.Things[0].Username, c.cfg.Things[0].Password = "pump", "right"
	c.cfg.Fleets.APISecret = "wrong"
	c.sim.Broker().DenySubscribe("$emqx/things/pump-07/jobs/notify", 0x87)
	c.sim.Broker().DenyPublish("$emqx/things/pump-07/jobs/get", 0x87)
	lines, healthy = c.examine(doctor.Options{})
	if healthy {
		t.Error("healthy")
	}
	has(t, lines, doctor.OK, "connect")
	has(t, lines, doctor.Fail, "subscribe", "$emqx/things/pump-07/jobs/notify refused, 0x87 not authorised", "→ allow the client")
	has(t, lines, doctor.OK, "subscribe", "$emqx/things/pump-07/jobs/notify-next granted")
	has(t, lines, doctor.Fail, "publish", "0x87", "→ allow the client to publish")
	has(t, lines, doctor.Fail, "api", "401", "GET /api/v1/thing-datas")
	if strings.Contains(strings.Join(lines, "\n"), "right") {
		t.Error("a password was printed")
	}
}

func TestUnreachable(t *testing.T) {
	c := open(t)
	c.cfg.MQTT.Server = []string{"mqtt://" + fleetsim.Address(t)}
	c.cfg.Fleets.URL = "https://does-not-exist.invalid"
	lines, healthy := c.examine(doctor.Options{Timeout: 10 * time.Second})
	if healthy {
		t.Error("healthy")
	}
	has(t, lines, doctor.Fail, "dns", "does-not-exist.invalid", "→ check the name in fleets.url")
	has(t, lines, doctor.Fail, "tcp", "refused", "→ check host and port in mqtt.server")
	has(t, lines, doctor.Skip, "tcp", "does-not-exist.invalid", "needs dns")
	has(t, lines, doctor.Skip, "tls", "needs tcp")
	has(t, lines, doctor.Skip, "clock", "unknown")
	has(t, lines, doctor.Fail, "connect", "refused")
	has(t, lines, doctor.OK, "jetstream")

	c.cfg.MQTT.Server = append(c.cfg.MQTT.Server, c.sim.BrokerURL())
	c.cfg.Fleets = gateway.Fleets{}
	lines, healthy = c.examine(doctor.Options{})
	if !healthy {
		t.Error(strings.Join(lines, "\n"))
	}
	has(t, lines, doctor.Warn, "tcp", "another server of mqtt.server works")
	has(t, lines, doctor.Skip, "api", "fleets.url is not set")
}

func TestCertificates(t *testing.T) {
	certificate, err := fleetsim.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	c := open(t, func(o *fleetsim.Options) { o.Embedded.TLS = certificate })
	c.cfg.MQTT.Server = []string{c.sim.Broker().TLSURL()}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, certificate.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	lines, _ := c.examine(doctor.Options{})
	has(t, lines, doctor.Fail, "tls", "not trusted", "→ set mqtt.tls.ca_file")
	c.cfg.MQTT.TLS.CAFile = ca
	lines, healthy := c.examine(doctor.Options{})
	has(t, lines, doctor.OK, "tls", "TLS 1.3", "valid until")
	has(t, lines, doctor.OK, "connect")
	if !healthy {
		t.Error(strings.Join(lines, "\n"))
	}
	c.cfg.MQTT.TLS.ServerName = "broker.example.com"
	lines, _ = c.examine(doctor.Options{})
	has(t, lines, doctor.Fail, "tls", "is for localhost, 127.0.0.1", "not for broker.example.com", "mqtt.tls.server_name")
	c.cfg.MQTT.TLS.ServerName = ""
	block, _ := pem.Decode(certificate.PEM)
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for status, at := range map[doctor.Status]time.Time{doctor.Warn: parsed.NotAfter.Add(-time.Hour), doctor.Fail: parsed.NotAfter.Add(time.Hour)} {
		lines, _ = c.examine(doctor.Options{Now: func() time.Time { return at }})
		has(t, lines, status, "tls", "renewed")
		has(t, lines, doctor.Fail, "clock", "ahead of", "→ set this machine's clock")
	}
	c.cfg.MQTT.Server = []string{strings.Replace(c.sim.BrokerURL(), "mqtt:", "mqtts:", 1)}
	lines, _ = c.examine(doctor.Options{})
	has(t, lines, doctor.Fail, "tls", "check whether the port speaks TLS")
}

func TestNothingElseIsTouched(t *testing.T) {
	c := open(t)
	// A store that somebody else's bridge uses, and no way to ask it.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c.cfg.NATS.Embedded.Listen = taken.Addr().String()
	lines, healthy := c.examine(doctor.Options{Stay: true})
	if healthy {
		t.Error("healthy, though the address is taken")
	}
	has(t, lines, doctor.Fail, "nats", "in use")
	has(t, lines, doctor.Skip, "connect", "--no-connect")
	if n := len(c.sim.Received()); n > 0 {
		t.Errorf("%d publishes", n)
	}
}

func TestSecretsThatAllMayRead(t *testing.T) {
	c := open(t)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	c.cfg.Things[0].PasswordFile = file
	lines, _ := c.examine(doctor.Options{Stay: true})
	has(t, lines, doctor.Warn, "secrets", file, "→ chmod 600")
}

func TestNoTimeLeft(t *testing.T) {
	c := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var lines []string
	d, err := doctor.New(c.cfg, doctor.Options{}, func(f doctor.Finding) { lines = append(lines, f.String()) })
	if err != nil {
		t.Fatal(err)
	}
	d.Run(ctx)
	for _, check := range []string{"dns", "connect", "subscribe", "queues", "api", "nats", "jetstream", "disk", "fsync"} {
		has(t, lines, doctor.Skip, check, "--timeout")
	}
}

// firstAnswer waits until the bridge has the answer to what it asks after each connection; else that would be one
// more message that waits for it.
func firstAnswer(ctx context.Context, t *testing.T, address string) {
	t.Helper()
	nc, err := nats.Connect("nats://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.OrderedConsumer(ctx, "FLEETS_DOWN", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"fleets.down.pump-07.jobs.get.accepted"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Next(jetstream.FetchMaxWait(patience)); err != nil {
		t.Fatal(err)
	}
}

// runFor runs a bridge while f does. It may log the warnings that are expected.
func runFor(t *testing.T, cfg *gateway.Config, f func(ctx context.Context), expected ...fleetsim.Expectation) {
	t.Helper()
	g, err := gateway.New(cfg, gateway.Build{Version: "0.0.0"}, fleetsim.Log(t, expected...))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- g.Run(run) }()
	select {
	case <-g.Listening():
		f(ctx)
	case err := <-ended:
		t.Fatalf("the bridge did not start: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
