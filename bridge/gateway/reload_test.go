package gateway_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

// yard is a site whose broker is reached through a front, which counts connections.
func yard(t *testing.T, registered []string, options ...siteOption) (*site, *front) {
	t.Helper()
	sim := fleetsim.Start(t, fleetsim.Options{Things: registered})
	f := newFront(t, sim.BrokerURL(), nil)
	s := open(t, append([]siteOption{withoutAPI(), expect(stray), edit(func(c *gateway.Config) { c.MQTT.Server = []string{f.url} })}, options...)...)
	s.sim = sim
	return s, f
}

// stray is what the log says of a publish for a Thing that is not there, which some of these tests try.
const stray = "for a Thing that is not configured"

// with copies the configuration in force and changes the copy.
func (s *site) with(change func(*gateway.Config)) *gateway.Config {
	c := *s.cfg
	c.Things = append([]gateway.Thing{}, s.cfg.Things...)
	c.Local.Users = append([]gateway.User{}, s.cfg.Local.Users...)
	change(&c)
	return &c
}

// reload has the bridge take over a configuration, which must work.
func (s *site) reload(c *gateway.Config) {
	s.t.Helper()
	if err := s.gw.Reload(s.context(), c); err != nil {
		s.t.Fatalf("reload: %v", err)
	}
	s.cfg = c
}

func thingNamed(name string) gateway.Thing { return gateway.Thing{Name: name, ClientID: name} }

// A Thing that is added works as from the start, and nobody else's session is touched.
func TestThingAdded(t *testing.T) {
	t.Parallel()
	simOnly(t)
	s, f := yard(t, []string{"pump-07", "valve-3"})
	before := s.status("pump-07", func(string) bool { return true })
	if _, err := s.js.Publish(s.context(), "fleets.up.valve-3.events.n", []byte(event(0))); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Fatalf("publish for a Thing that is not there: %v", err)
	}
	if _, code := s.request("fleets.req.valve-3.jobs.get", ""); code != "404" {
		t.Errorf("request: %s", code)
	}
	s.reload(s.with(func(c *gateway.Config) { c.Things = append(c.Things, thingNamed("valve-3")) }))
	s.ready()
	s.publish("fleets.up.valve-3.events.n", event(0))
	s.arrives("$emqx/things/valve-3/events/n", "")
	if answer, code := s.request("fleets.req.valve-3.jobs.get", ""); code != "" {
		t.Errorf("%s %s", code, answer.Data)
	}
	down := s.subscribe("fleets.down.valve-3.jobs.notify")
	s.down("$emqx/things/valve-3/jobs/notify", `{}`, fleetsim.PublishOptions{})
	s.next(down)
	if n := len(f.came()); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	if after := s.status("pump-07", func(string) bool { return true }); after != before {
		t.Errorf("the other's status was %s, is %s", before, after)
	}
	for _, want := range []string{`fleetbridge_mqtt_connected{thing="valve-3"} 1`, `fleetbridge_queued_messages{thing="valve-3"} 0`} {
		s.shows("/metrics", 200, want)
	}
	s.shows("/readyz", 200, `"valve-3":true`)
	s.restart()
	s.ready()
}

// A Thing that is removed leaves with DISCONNECT, what is queued stays, and comes with it when it is back.
func TestThingRemovedAndBack(t *testing.T) {
	t.Parallel() // it waits more than it works
	simOnly(t)
	s, _ := yard(t, []string{"pump-07", "valve-3"}, things("pump-07", "valve-3"), edit(func(c *gateway.Config) { c.MQTT.MaxPublishRate = 5 }))
	for n := range 60 {
		s.publish("fleets.up.valve-3.events.n", event(n))
	}
	both := s.cfg
	s.reload(s.with(func(c *gateway.Config) { c.Things = c.Things[:1] }))
	s.connected("valve-3", false)
	if _, err := s.js.Publish(s.context(), "fleets.up.valve-3.events.n", []byte(event(0))); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("publish for a Thing that is gone: %v", err)
	}
	if _, code := s.request("fleets.req.valve-3.jobs.get", ""); code != "404" {
		t.Errorf("request: %s", code)
	}
	kv, err := s.js.KeyValue(s.context(), "FLEETS_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(s.context(), "valve-3"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("its status is still there: %v, %v", e, err)
	}
	s.omits("/metrics", "valve-3")
	s.omits("/readyz", "valve-3")
	s.shows("/readyz", 200)
	arrived := s.countEvents("valve-3")
	if arrived >= 60 {
		t.Fatal("nothing was left in the queue, the test shows nothing")
	}
	unlimited := *both
	unlimited.MQTT.MaxPublishRate = 0
	s.reload(&unlimited)
	s.ready()
	for n := range 60 {
		s.arrives("$emqx/things/valve-3/events/n", event(n))
	}
}

// connected waits until the broker has a client's connection, or has it no more.
func (s *site) connected(clientID string, connected bool) {
	s.t.Helper()
	if err := s.sim.Broker().WaitConnected(s.context(), clientID, connected); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) countEvents(thing string) int {
	n := 0
	for _, p := range s.sim.Received() {
		if strings.HasPrefix(p.Topic, "$emqx/things/"+thing+"/events/") {
			n++
		}
	}
	return n
}

// Only the Thing that changed gets a new connection.
func TestThingChanged(t *testing.T) {
	t.Parallel()
	simOnly(t)
	schemas, typed := t.TempDir(), filepath.Join(t.TempDir(), "valve.json")
	writeFile(t, typed, []byte(`{"properties":{"rpm":{"type":"string"}}}`))
	s, f := yard(t, []string{"pump-07", "valve-3"}, things("pump-07", "valve-3"))
	before := s.status("pump-07", func(string) bool { return true })
	for i, change := range []func(*gateway.Thing){
		func(t *gateway.Thing) { t.Username, t.Password = "valve", "hunter2" },
		func(t *gateway.Thing) { t.ClientID = "valve-three" },
		func(t *gateway.Thing) { t.SchemaDir = schemas },
		func(*gateway.Thing) { // the file in it, not the configuration
			writeFile(s.t, schemas+"/reported.schema.json", []byte(`{"type":"object","required":["rpm"]}`))
		},
		func(t *gateway.Thing) { t.ThingType = typed },
		func(*gateway.Thing) {
			writeFile(s.t, typed, []byte(`{"properties":{"rpm":{"type":"int","unit":"1/min"}}}`))
		},
	} {
		s.reload(s.with(func(c *gateway.Config) { change(&c.Things[1]) }))
		f.wait(3 + i)
		s.waitQuestions(3 + i) // each connection asks; the status may still be that of the one before
		s.ready()
	}
	s.connected("valve-three", true)
	s.connected("valve-3", false)
	if _, code := s.request("fleets.req.valve-3.shadow.update", `{"state":{"reported":{"t":1}}}`); code != "400" {
		t.Errorf("the new schema is not in force: %s", code)
	}
	if answer, code := s.request("fleets.req.valve-3.shadow.update", `{"state":{"reported":{"rpm":"fast"}}}`); code != "400" || !strings.Contains(string(answer.Data), "1/min") {
		t.Errorf("the new Thing Type is not in force: %s %s", code, answer.Data)
	}
	s.reload(s.cfg) // once more the same
	if n := len(f.came()); n != 8 {
		t.Errorf("%d connections, want 8", n)
	}
	if after := s.status("pump-07", func(string) bool { return true }); after != before {
		t.Errorf("the other's status was %s, is %s", before, after)
	}
}

// What a running bridge can't change is refused, all of it named, and nothing happens.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	s := open(t, withoutAPI(), expect(stray))
	err := s.gw.Reload(s.context(), s.with(func(c *gateway.Config) {
		c.Things = append(c.Things, thingNamed("valve-3"))
		c.NATS.Prefix, c.NATS.Embedded.StoreDir, c.HTTP.Listen = "site", "elsewhere", "127.0.0.1:1"
		c.NATS.Up.MaxBytes, c.Limits.Depth, c.MQTT.SessionExpiry, c.Log.Format, c.Log.Level = 1, 3, time.Hour, "json", "warn"
		c.Local.Users = []gateway.User{{Name: "hvac", Password: "hunter2", Things: []string{"pump-07"}}}
	}))
	if err == nil {
		t.Fatal("taken over")
	}
	for _, key := range []string{"nats.prefix", "nats.embedded.store_dir", "http.listen", "nats.up.max_bytes", "limits.depth",
		"mqtt.session_expiry", "log.format", "log.level"} {
		if !strings.Contains(err.Error(), key+": can't change while the bridge runs: restart it") {
			t.Errorf("%s is not named", key)
		}
	}
	if !strings.Contains(err.Error(), "local.users: the first user comes, and the last one goes, with a restart") {
		t.Error("local.users is not named")
	}
	if strings.Contains(err.Error(), "hunter2") || strings.Count(err.Error(), "\n") != 8 {
		t.Errorf("got %s", err)
	}
	if _, err := s.js.Publish(s.context(), "fleets.up.valve-3.events.n", []byte(event(0))); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("the Thing was added all the same: %v", err)
	}
}

// A Thing that can't be made is not added, and nobody else notices.
func TestThingThatCannotBeAdded(t *testing.T) {
	t.Parallel()
	simOnly(t)
	s, f := yard(t, []string{"pump-07", "valve-3"})
	down, err := s.js.Stream(s.context(), "FLEETS_DOWN")
	if err != nil {
		t.Fatal(err)
	}
	closed := down.CachedInfo().Config
	closed.AllowDirect = false // so that the bridge can't read what was delivered
	if _, err := s.js.UpdateStream(s.context(), closed); err != nil {
		t.Fatal(err)
	}
	two := s.with(func(c *gateway.Config) { c.Things = append(c.Things, thingNamed("valve-3")) })
	if err := s.gw.Reload(s.context(), two); err == nil || !strings.Contains(err.Error(), "valve-3") {
		t.Fatalf("got %v", err)
	}
	if _, err := s.js.Publish(s.context(), "fleets.up.valve-3.events.n", []byte(event(0))); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("publish for a Thing that is not there: %v", err)
	}
	s.publish("fleets.up.pump-07.events.n", event(0))
	s.inOrder(1)
	if _, err := s.js.CreateOrUpdateStream(s.context(), down.CachedInfo().Config); err != nil {
		t.Fatal(err)
	}
	s.reload(two)
	s.ready()
	if n := len(f.came()); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// What belongs to no Thing alone is changed in place.
func TestLiveSettings(t *testing.T) {
	simOnly(t)
	s, f := yard(t, []string{"pump-07"})
	s.reload(s.with(func(c *gateway.Config) { c.Requests.Timeout = 50 * time.Millisecond }))
	if err := s.sim.SetMisbehaviour(fleetsim.Misbehaviour{DropAnswers: 1}); err != nil {
		t.Fatal(err)
	}
	if answer, code := s.request("fleets.req.pump-07.jobs.get", ""); code != "504" || !strings.Contains(string(answer.Data), "50ms") {
		t.Errorf("got %s %s", code, answer.Data)
	}
	if n := len(f.came()); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	// The broker moves: every Thing goes with it.
	other := newFront(t, s.sim.BrokerURL(), nil)
	s.reload(s.with(func(c *gateway.Config) { c.MQTT.Server = []string{other.url} }))
	other.wait(1)
	s.ready()
	s.stop() // before the front goes
}

// Under load of one Thing another one comes and goes; nothing of the first is lost, and it never notices.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	simOnly(t)
	s, _ := yard(t, []string{"pump-07", "valve-3"})
	const rounds, most = 4, 400
	ended, published := make(chan struct{}), make(chan int, 1)
	go func() {
		n := 0
		for ; n < most; n++ {
			select {
			case <-ended:
				published <- n
				return
			default:
			}
			if _, err := s.js.Publish(t.Context(), "fleets.up.pump-07.events.n", []byte(event(n))); err != nil {
				t.Errorf("publish %d: %v", n, err)
			}
		}
		published <- n
	}()
	one := s.cfg
	two := s.with(func(c *gateway.Config) { c.Things = append(c.Things, thingNamed("valve-3")) })
	for n := range rounds {
		s.reload(two)
		s.publish("fleets.up.valve-3.events.n", event(n))
		s.reload(one)
	}
	close(ended)
	s.inOrder(<-published)
	s.reload(two)
	s.ready()
	for n := range rounds {
		s.arrives("$emqx/things/valve-3/events/n", event(n))
	}
}

// A stop in the middle of a reload is a stop.
func TestStopDuringReload(t *testing.T) {
	t.Parallel() // it waits more than it works
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			s := open(t, withoutAPI(), things("pump-07", "valve-3"), cloud(func(o *fleetsim.Options) { o.Things = []string{"third"} }))
			handled := make(chan struct{})
			if _, err := s.nc.Subscribe("fleets.cmd.valve-3.>", func(m *nats.Msg) { close(handled) }); err != nil { // a handler that never answers
				t.Fatal(err)
			}
			if err := s.nc.Flush(); err != nil {
				t.Fatal(err)
			}
			if round > 0 {
				s.down("$emqx/commands/things/valve-3/executions/e1/request",
					`{"executionId":"e1","action":"wait","params":{},"timestamp":`+fmt.Sprint(time.Now().UnixMilli())+`,"ttl":60000}`, fleetsim.PublishOptions{})
				if round > 1 {
					<-handled
				}
			}
			result := make(chan error, 1)
			go func() {
				result <- s.gw.Reload(t.Context(), s.with(func(c *gateway.Config) { c.Things[1] = thingNamed("third") }))
			}()
			s.nc.Close()
			s.stop()
			_ = result // it may have worked, or been overtaken
		})
	}
}
