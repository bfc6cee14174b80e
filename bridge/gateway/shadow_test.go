package gateway_test

import (
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

// Trap T14: what was reported without a connection is missing from the GET that begins the next one, and from
// none of the reports that follow.
func TestT14ReportedWhileCut(t *testing.T) {
	t.Parallel()
	s := open(t, startCut(), expect("cannot connect"))
	s.sim.SetHTTPFault(&fleetsim.HTTPFault{Body: []byte(`{"reported":{},"desired":{},"delta":{},"version":1}`)})
	s.publish("fleets.up.pump-07.shadow.update", `{"state":{"reported":{"a":1}}}`)
	s.link.Restore()
	s.ready()
	s.arrives("$emqx/things/pump-07/shadow/update", `{"state":{"reported":{"a":1}}}`)
	s.publish("fleets.up.pump-07.shadow.update", `{"state":{"reported":{"b":2}}}`)
	s.arrives("$emqx/things/pump-07/shadow/update", `{"state":{"reported":{"a":1,"b":2}}}`)
}

// One Thing's stored document that can't be read is said and fetched anew; every Thing goes on.
func TestUnreadableShadowInTheStore(t *testing.T) {
	t.Parallel()
	s := open(t, things("pump-07", "valve-1"), expect("the stored shadow document can't be read"))
	s.publish("fleets.up.pump-07.shadow.update", `{"state":{"reported":{"a":1}}}`)
	s.arrives("$emqx/things/pump-07/shadow/update", `{"state":{"reported":{"a":1}}}`)
	s.watch("FLEETS_SHADOW", "pump-07", func(doc string) bool { return gjson.Get(doc, "reported").Raw == `{"a":1}` })
	kv, err := s.js.KeyValue(s.context(), "FLEETS_SHADOW")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(s.context(), "pump-07", `{"reported":{"a":1},"version":3,"updatedAt":"Invalid\x7fDate"}`); err != nil {
		t.Fatal(err)
	}
	s.restart()
	s.ready()
	s.watch("FLEETS_SHADOW", "pump-07", func(doc string) bool { return gjson.Valid(doc) && gjson.Get(doc, "reported").Raw == `{"a":1}` })
	s.publish("fleets.up.pump-07.shadow.update", `{"state":{"reported":{"b":2}}}`)
	s.arrives("$emqx/things/pump-07/shadow/update", `{"state":{"reported":{"a":1,"b":2}}}`)
}

// Answers to reports, which the protocol may have one day, match a wide filter: nobody sees them, and they
// don't fill the dead letters.
func TestAnswersToReportsAreDropped(t *testing.T) {
	t.Parallel()
	s := open(t, edit(func(c *gateway.Config) { c.MQTT.Subscriptions = gateway.SubscriptionsCompact }))
	all := s.subscribe("fleets.down.pump-07.>")
	update := "$emqx/things/pump-07/shadow/update"
	s.down(update+"/accepted", `{"state":{"reported":{"a":1}},"clientToken":"x"}`, fleetsim.PublishOptions{})
	s.down(update+"/rejected", `{"code":409,"clientToken":"x"}`, fleetsim.PublishOptions{})
	s.down(update+"/unheard-of", `{}`, fleetsim.PublishOptions{})
	s.down("$emqx/things/pump-07/jobs/notify", `{}`, fleetsim.PublishOptions{})
	for m := s.next(all); !strings.HasSuffix(m.Subject, "notify"); m = s.next(all) {
		if strings.Contains(m.Subject, "shadow") {
			t.Errorf("%s %s came down", m.Subject, m.Data)
		}
	}
	s.metrics(
		`fleetbridge_dead_letters_total{code="unexpected",direction="down"} 1`,
		`fleetbridge_messages_total{channel="unknown",direction="down",outcome="duplicate"} 2`,
		`fleetbridge_messages_total{channel="unknown",direction="down",outcome="dead"} 1`)
}
