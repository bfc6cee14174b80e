//go:build realbroker

package gateway_test

import (
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

// What only brokers with the traits of real ones show; with -broker like:NAME.

func knobs(words ...string) siteOption { return func(o *siteOptions) { o.knobs = words } }

// traits are the broker's.
func traits(t *testing.T) fleetsim.Traits {
	t.Helper()
	name, like := strings.CutPrefix(*brokerFlag, "like:")
	if !like {
		t.Skip("-broker like:NAME shows it")
	}
	out, err := fleetsim.Like(name)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Messages that the broker drops from a full queue are gone; those that it keeps come in order, and the Thing works on.
func TestLikeQueueOverflowsWhileAway(t *testing.T) {
	like := traits(t)
	t.Parallel()
	const sent = 1500
	s := open(t)
	s.stop()
	for n := range sent {
		s.down("$emqx/things/pump-07/jobs/notify", fmt.Sprintf(`{"n":%d}`, n), fleetsim.PublishOptions{})
	}
	s.start()
	s.ready()
	if like.DropOldest {
		s.numbered(sent-like.MaxQueue, sent)
	} else {
		const answers = 4 // to what the bridge had asked as it stopped; they have places in the queue
		s.numbered(0, like.MaxQueue-answers)
	}
	sub := s.subscribe("fleets.down.pump-07.jobs.notify-next")
	s.down("$emqx/things/pump-07/jobs/notify-next", `{}`, fleetsim.PublishOptions{})
	s.next(sub)
}

// numbered checks that the notifications from..to-1, and no others, came down, in order.
func (s *site) numbered(from, to int) {
	s.t.Helper()
	c, err := s.js.OrderedConsumer(s.context(), "FLEETS_DOWN", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"fleets.down.pump-07.jobs.notify"}})
	if err != nil {
		s.t.Fatal(err)
	}
	for want := from; want < to; want++ {
		m, err := c.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			s.t.Fatalf("notification %d: %v", want, err)
		}
		if got := int(gjson.GetBytes(m.Data(), "n").Int()); got != want {
			s.t.Fatalf("notification %d came when %d was due", got, want)
		}
	}
}

// What was desired while a broker forgot the session comes with the GET, and what goes up meanwhile arrives in order.
func TestLikeRestartOfTheBroker(t *testing.T) {
	traits(t)
	t.Parallel()
	s := open(t, expect("connection lost", "cannot connect", "session"))
	sub := s.subscribe("fleets.down.pump-07.shadow.update.delta")
	for n := range 200 {
		if n%50 == 25 {
			s.sim.Broker().Restart()
		}
		s.publish("fleets.up.pump-07.events.n", event(n))
	}
	s.inOrder(200)
	s.ready()
	s.link.Cut()
	s.status("pump-07", func(v string) bool { return !gjson.Get(v, "connected").Bool() })
	s.sim.Broker().Restart()
	if _, err := s.sim.PatchDesired("pump-07", []byte(`{"target":7}`)); err != nil {
		t.Fatal(err)
	}
	if err := s.sim.WaitSent(s.context()); err != nil {
		t.Fatal(err)
	}
	s.link.Restore()
	if m := s.next(sub); gjson.GetBytes(m.Data, "state.target").Int() != 7 {
		t.Errorf("%s", m.Data)
	}
	s.ready()
	s.obeys()
}

// obeys sends a command, which must succeed.
func (s *site) obeys() {
	s.t.Helper()
	sub, err := s.nc.Subscribe("fleets.cmd.pump-07.purge", func(m *nats.Msg) { _ = m.Respond(nil) })
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	id, err := s.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "purge", TTL: time.Minute})
	if err != nil {
		s.t.Fatal(err)
	}
	if x, err := s.sim.WaitCommand(s.context(), id); err != nil || x.Status != "SUCCEEDED" {
		s.t.Errorf("%+v %v", x, err)
	}
}

// Who is kicked comes back; who is banned says so, and comes back when he may.
func TestLikeKickAndBan(t *testing.T) {
	traits(t)
	t.Parallel()
	s := open(t, expect("connection lost", "cannot connect", "session"))
	if err := s.sim.Broker().Kick("pump-07"); err != nil {
		t.Fatal(err)
	}
	s.status("pump-07", func(v string) bool { return !gjson.Get(v, "connected").Bool() })
	s.ready()
	s.obeys()
	s.sim.Broker().Ban("pump-07", time.Hour)
	if err := s.sim.Broker().Kick("pump-07"); err != nil {
		t.Fatal(err)
	}
	s.publish("fleets.up.pump-07.events.n", event(0))
	s.status("pump-07", func(v string) bool { return strings.Contains(gjson.Get(v, "lastError").String(), "0x8A") })
	s.shows("/readyz", 503, "banned")
	s.sim.Broker().Ban("pump-07", 0)
	s.inOrder(1)
	s.ready()
}

// F1: the way out of a quota of filters that the bridge names itself works on a session that the broker has kept.
func TestLikeQuotaOnAKeptSession(t *testing.T) {
	traits(t)
	t.Parallel()
	s := open(t, startCut(), knobs("max-subscriptions=10"), expect("cannot connect", "refused", "reports go up although"))
	s.link.Restore()
	s.status("pump-07", func(v string) bool {
		return strings.Contains(v, "0x97") && strings.Contains(v, gateway.SubscriptionsCompact)
	})
	s.stop()
	s.cfg.MQTT.Subscriptions = gateway.SubscriptionsCompact
	s.start()
	s.ready()
	s.obeys()
	for _, channel := range []string{"jobs/notify", "jobs/get/accepted", "jobs/j/update/accepted"} {
		sub := s.subscribe("fleets.down.pump-07.>")
		s.down("$emqx/things/pump-07/"+channel, `{"clientToken":"quota"}`, fleetsim.PublishOptions{})
		s.down("$emqx/things/pump-07/jobs/notify-next", `{}`, fleetsim.PublishOptions{})
		for n := 0; ; {
			m := s.next(sub)
			if strings.HasSuffix(m.Subject, "notify-next") {
				if n != 1 {
					t.Errorf("%s came %d times", channel, n)
				}
				break
			}
			if string(m.Data) == `{"clientToken":"quota"}` {
				n++
			} else {
				t.Logf("meanwhile came %s %s", m.Subject, m.Data) // an answer to the first run, the command
			}
		}
	}
}

// F3, F7: where what is not allowed ends the connection, it costs few connections, too few for a ban, and the rest works.
func TestLikeDenialsThatDisconnect(t *testing.T) {
	traits(t)
	t.Parallel()
	t.Run("events", func(t *testing.T) {
		t.Parallel()
		s := open(t, knobs("deny-action=disconnect", "flapping=15/1m/5m", "deny-publish=$emqx/things/+/events/secret"), expect("connection lost", "messages wait"))
		for n := range 10 {
			s.publish("fleets.up.pump-07.events.secret", fmt.Sprintf(`{"eventType":"secret","severity":"info","timestamp":%d}`, 1780000000000+n))
			s.publish("fleets.up.pump-07.events.n", event(n))
		}
		s.inOrder(10)
		s.status("pump-07", func(v string) bool { return gjson.Get(v, "queued").Int() == 0 })
		if n := s.stored("FLEETS_DEAD"); n != 10 {
			t.Errorf("%d dead letters, want 10", n)
		}
		s.ready()
		s.obeys()
	})
	t.Run("question", func(t *testing.T) {
		t.Parallel()
		s := open(t, startCut(), knobs("deny-action=disconnect", "flapping=15/1m/5m", "deny-publish=$emqx/things/+/jobs/get"),
			expect("cannot connect", "connection lost", "jobs/get", "messages wait"))
		s.link.Restore()
		s.publish("fleets.up.pump-07.events.n", event(0))
		s.inOrder(1)
		s.ready()
		s.obeys()
		for n := 1; n < 50; n++ {
			s.publish("fleets.up.pump-07.events.n", event(n))
		}
		s.inOrder(50)
	})
	t.Run("filter", func(t *testing.T) {
		t.Parallel()
		s := open(t, startCut(), knobs("deny-action=disconnect", "deny-subscribe=$emqx/things/pump-07/jobs/notify"),
			expect("cannot connect", "connection lost", "refused"))
		s.link.Restore()
		s.status("pump-07", func(v string) bool { return strings.Contains(gjson.Get(v, "lastError").String(), "0x87") })
		s.shows("/readyz", 503, "0x87")
		s.sim.Broker().AllowAll()
		s.ready()
	})
}

// A burst that ends the connection and the session costs what the broker had, and nothing else.
func TestLikeBurst(t *testing.T) {
	if traits(t).Burst == 0 {
		t.Skip("a burst does not end this broker's sessions")
	}
	t.Parallel()
	s := open(t, expect("connection lost", "cannot connect", "session"))
	for n := range 5000 {
		s.down("$emqx/things/pump-07/jobs/notify", fmt.Sprintf(`{"n":%d}`, n), fleetsim.PublishOptions{})
	}
	s.status("pump-07", func(v string) bool {
		return !gjson.Get(v, "sessionPresent").Bool() && gjson.Get(v, "subscribed").Bool()
	})
	s.ready()
	s.publish("fleets.up.pump-07.events.n", event(0))
	s.inOrder(1)
	s.obeys()
}

// What a broker sends again on the same connection runs once.
func TestLikeResendsOnTheConnection(t *testing.T) {
	traits(t)
	t.Parallel()
	s := open(t, knobs("retry-interval=50ms"))
	var runs atomic.Int32
	if _, err := s.nc.Subscribe("fleets.cmd.pump-07.purge", func(m *nats.Msg) { runs.Add(1); _ = m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	if err := s.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	_, release := s.link.HoldBefore(fleetsim.FromClient, fleetsim.PUBACK, 1)
	id, err := s.sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "purge", TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	copies := regexp.MustCompile(`fleetbridge_messages_total\{channel="command.request",direction="down",outcome="duplicate"\} [1-9]`)
	if !copies.MatchString(s.page("/metrics", copies.MatchString)) {
		t.Error("nothing was sent again")
	}
	release()
	if x, err := s.sim.WaitCommand(s.context(), id); err != nil || x.Status != "SUCCEEDED" {
		t.Errorf("%+v %v", x, err)
	}
	s.stop()
	if n := runs.Load(); n != 1 {
		t.Errorf("the command ran %d times", n)
	}
}
