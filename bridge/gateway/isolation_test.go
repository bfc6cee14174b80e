package gateway_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"
	"golang.org/x/crypto/bcrypt"

	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local/access"
	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

// withUsers gives alice the Thing pump-07 and bob fan-1.
func withUsers(s *siteOptions) {
	things("pump-07", "fan-1")(s)
	expect(" - cid:")(s) // refusals
	edit(func(c *gateway.Config) {
		c.Commands.HandlerWait = 300 * time.Millisecond
		c.Local.Users = []gateway.User{
			{Name: "alice", Password: "secret-a", Things: []string{"pump-07"}},
			{Name: "bob", Password: "secret-b", Things: []string{"fan-1"}},
		}
	})(s)
}

// login connects a program as a user.
func (s *site) login(name, password string) *nats.Conn {
	s.t.Helper()
	url := s.gw.NATSURL()
	if _, address, found := strings.Cut(url, "@"); found { // the bridge's own login
		url = "nats://" + address
	}
	nc, err := nats.Connect(url, nats.Timeout(patience), nats.UserInfo(name, password), nats.CustomInboxPrefix("_INBOX_"+name),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

// TestUsersHaveTheWholeProtocol: with local.users every flow works for the user's own Thing.
func TestUsersHaveTheWholeProtocol(t *testing.T) {
	t.Parallel()
	s := open(t, withUsers)
	alice := s.login("alice", "secret-a")
	js, err := jetstream.New(alice)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(s.context(), "fleets.up.pump-07.shadow.update", []byte(`{"state":{"reported":{"temp":21}}}`)); err != nil {
		t.Fatal(err)
	}
	s.arrives("$emqx/things/pump-07/shadow/update", `{"state":{"reported":{"temp":21}}}`)
	m, err := alice.RequestWithContext(s.context(), "fleets.req.pump-07.events.hot", []byte(`{"eventType":"hot","severity":"info","data":{"temp":99}}`))
	if err != nil || !gjson.GetBytes(m.Data, "seq").Exists() {
		t.Errorf("%v, %v", m, err)
	}
	s.arrives("$emqx/things/pump-07/events/hot", "")
	if m, err := alice.RequestWithContext(s.context(), "fleets.req.pump-07.jobs.get", nil); err != nil || m.Header.Get("Nats-Service-Error-Code") != "" {
		t.Errorf("%v, %v", m, err)
	}
	if m, err := alice.RequestWithContext(s.context(), "fleets.req.pump-07.shadow.get", nil); err != nil || gjson.GetBytes(m.Data, "reported.temp").Raw != "21" {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := alice.QueueSubscribe("fleets.cmd.pump-07.purge", "workers", func(m *nats.Msg) { _ = m.Respond([]byte(`{"status":"SUCCEEDED","result":{"by":"alice"}}`)) }); err != nil {
		t.Fatal(err)
	}
	if err := alice.Flush(); err != nil {
		t.Fatal(err)
	}
	for action, want := range map[string]string{"purge": "SUCCEEDED", "dance": "REJECTED"} {
		id, err := s.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: action, TTL: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if x, err := s.sim.WaitCommand(s.context(), id); err != nil || x.Status != want {
			t.Errorf("%s: %+v, %v", action, x, err)
		}
	}
	c, err := js.OrderedConsumer(s.context(), "FLEETS_DOWN", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"fleets.down.pump-07.commands.>"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if m, err := c.Next(jetstream.FetchMaxWait(patience)); err != nil || !strings.HasSuffix(m.Subject(), ".request") {
			t.Errorf("%v, %v", m, err)
		}
	}
	kv, err := js.KeyValue(s.context(), "FLEETS_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(s.context(), "pump-07"); err != nil || !gjson.GetBytes(e.Value(), "connected").Bool() {
		t.Errorf("%v, %v", e, err)
	}
	if alice.LastError() != nil {
		t.Error(alice.LastError())
	}
}

// TestUsersReachTheCloudForTheirOwnThingsOnly: whatever Alice tries, the cloud hears nothing of the fan
// that Bob did not say.
func TestUsersReachTheCloudForTheirOwnThingsOnly(t *testing.T) {
	t.Parallel()
	s := open(t, withUsers)
	s.arrives("$emqx/things/fan-1/jobs/get", "") // the bridge's own, at the start
	before := len(s.about("fan-1"))
	alice := s.login("alice", "secret-a")
	event, report := []byte(`{"eventType":"x","severity":"info","data":{"forged":true}}`), []byte(`{"state":{"reported":{"forged":true}}}`)
	for subject, payload := range map[string][]byte{
		"fleets.up.fan-1.events.x": event, "fleets.req.fan-1.events.x": event, "fleets.up.fan-1.shadow.update": report, "fleets.req.fan-1.shadow.update": report,
		"fleets.up.fan-1.jobs.get": nil, "fleets.req.fan-1.jobs.get": nil, "fleets.up.fan-1.commands.e.response": []byte(`{"status":"SUCCEEDED"}`),
	} {
		if err := alice.PublishRequest(subject, alice.NewRespInbox(), payload); err != nil {
			t.Fatal(err)
		}
		for _, question := range []string{"fleets.req.pump-07.jobs.get", "fleets.req.pump-07.shadow.get", "fleets.up.pump-07.jobs.get", "$JS.API.DIRECT.GET.KV_FLEETS_SHADOW.$KV.FLEETS_SHADOW.pump-07"} {
			if err := alice.PublishRequest(question, subject, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	// She serves the fan's commands before Bob does.
	if _, err := alice.QueueSubscribe("fleets.cmd.fan-1.>", "workers", func(m *nats.Msg) { _ = m.Respond([]byte(`{"status":"FAILED","result":{"by":"alice"}}`)) }); err != nil {
		t.Fatal(err)
	}
	if err := alice.Flush(); err != nil {
		t.Fatal(err)
	}
	bob := s.login("bob", "secret-b")
	if _, err := bob.QueueSubscribe("fleets.cmd.fan-1.spin", "workers", func(m *nats.Msg) { _ = m.Respond([]byte(`{"status":"SUCCEEDED","result":{"by":"bob"}}`)) }); err != nil {
		t.Fatal(err)
	}
	if err := bob.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		id, err := s.sim.SendCommand(fleetsim.Command{Thing: "fan-1", Action: "spin", TTL: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if x, err := s.sim.WaitCommand(s.context(), id); err != nil || string(x.Result) != `{"by":"bob"}` {
			t.Fatalf("%+v, %v", x, err)
		}
	}
	if _, err := alice.RequestWithContext(s.context(), "fleets.req.pump-07.jobs.get", nil); err != nil { // behind all that she asked
		t.Fatal(err)
	}
	if _, err := bob.RequestWithContext(s.context(), "fleets.req.fan-1.jobs.get", nil); err != nil { // behind all that was sent for the fan
		t.Fatal(err)
	}
	for _, p := range s.about("fan-1")[before:] {
		if !strings.Contains(p.Topic, "/executions/") && p.Topic != "$emqx/things/fan-1/jobs/get" || strings.Contains(string(p.Payload), "forged") {
			t.Errorf("the cloud got %s %s", p.Topic, p.Payload)
		}
	}
	if n := len(s.about("fan-1")) - before; n != 6 { // five responses and bob's question
		t.Errorf("the cloud got %d messages about the fan, want 6", n)
	}
}

// about lists what the cloud has got for a Thing.
func (s *site) about(thing string) (out []fleetsim.Publish) {
	for _, p := range s.sim.Received() {
		if strings.Contains(p.Topic, "/things/"+thing+"/") {
			out = append(out, p)
		}
	}
	return out
}

// TestUsersOnAnExternalServer: the accounts that `fleetbridge acl` prints, with a bridge and its users on them.
func TestUsersOnAnExternalServer(t *testing.T) {
	t.Parallel()
	subjects, err := mapping.NewSubjects("site-1.fleets")
	if err != nil {
		t.Fatal(err)
	}
	url := "nats://bridge:secret-of-the-bridge@127.0.0.1:1"
	s := open(t, withUsers, func(o *siteOptions) {
		users := o.edit
		o.edit = func(c *gateway.Config) {
			users(c)
			path := filepath.Join(t.TempDir(), "server.conf")
			f, err := os.Create(path)
			if err == nil {
				err = access.ACL{URL: url, Users: c.LocalUsers(), Subjects: subjects, Cost: bcrypt.MinCost}.Print(f)
			}
			if err != nil || f.Close() != nil {
				t.Fatal(err)
			}
			opts, err := server.ProcessConfigFile(path)
			if err != nil {
				t.Fatal(err)
			}
			opts.Host, opts.Port, opts.JetStream, opts.StoreDir, opts.NoSigs, opts.NoLog = "127.0.0.1", server.RANDOM_PORT, true, t.TempDir(), true, true
			ns, err := server.NewServer(opts)
			if err != nil {
				t.Fatal(err)
			}
			ns.Start()
			t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
			if !ns.ReadyForConnections(patience) {
				t.Fatal("the server is not ready")
			}
			c.NATS.URL = gateway.NATSURL(strings.Replace(url, "127.0.0.1:1", ns.Addr().String(), 1))
			c.NATS.Prefix = subjects.Prefix()
		}
	}, statusBucket("SITE-1_FLEETS_STATUS"))
	alice := s.login("alice", "secret-a")
	js, err := jetstream.New(alice)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(s.context(), "site-1.fleets.up.pump-07.jobs.get", nil); err != nil {
		t.Fatal(err)
	}
	if m, err := alice.RequestWithContext(s.context(), "site-1.fleets.req.pump-07.jobs.get", nil); err != nil || m.Header.Get("Nats-Service-Error-Code") != "" {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := alice.Subscribe("site-1.fleets.cmd.pump-07.purge", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil || alice.Flush() != nil {
		t.Fatal(err)
	}
	id, err := s.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "purge", TTL: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if x, err := s.sim.WaitCommand(s.context(), id); err != nil || x.Status != "SUCCEEDED" {
		t.Errorf("%+v, %v", x, err)
	}
	kv, err := js.KeyValue(s.context(), "SITE-1_FLEETS_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := kv.Keys(s.context()); err != nil || len(keys) != 1 || keys[0] != "pump-07" {
		t.Errorf("%v, %v", keys, err)
	}
}
