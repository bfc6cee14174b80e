package gateway_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"fleetbridge/fleetsim"
)

const reportTopic = "$emqx/things/pump-07/shadow/update" // of the Thing that most tests have

func reportsOf(thing string) string { return "$emqx/things/" + thing + "/shadow/update" }

// whole waits until the broker has taken a report of a Thing in which these members are so; an empty value: they are not there.
func (s *site) whole(thing string, want map[string]string) {
	s.t.Helper()
	last := ""
	_, err := s.sim.WaitPublish(s.context(), func(p fleetsim.Publish) bool {
		if p.Topic != reportsOf(thing) || p.Refused != 0 {
			return false
		}
		last = gjson.GetBytes(p.Payload, "state.reported").Raw
		for path, v := range want {
			if gjson.Get(last, path).Raw != v {
				return false
			}
		}
		return true
	})
	if err != nil {
		s.t.Fatalf("the cloud has %s, want %v", last, want)
	}
}

// A report that the broker refuses for what it says is a dead letter, and leaves no trace in the others, which are
// merged with it meanwhile: whether it stands alone, at the head, in the middle or behind, in a code that says so and in one
// that does not.
func TestRefusedReportLeavesNoTrace(t *testing.T) {
	t.Parallel()
	simOnly(t)
	type row struct {
		name string
		code byte
		at   int
	}
	var rows []row
	var names []string
	for _, code := range []byte{0x83, 0x80, 0x99} {
		for _, at := range []int{0, 5, 19} {
			r := row{fmt.Sprintf("%x-number-%d-of-20", code, at), code, at}
			rows, names = append(rows, r), append(names, r.name)
		}
	}
	s := open(t, things(names...), startCut(), expect("cannot connect", "messages wait", "dead letters"))
	for _, r := range rows { // each is a Thing
		s.sim.Broker().DenyPayload(reportsOf(r.name), `"bad":`, r.code)
		for n := range 20 {
			report := fmt.Sprintf(`{"state":{"reported":{"n":%d,"r%d":true}}}`, n, n)
			if n == r.at {
				report = `{"state":{"reported":{"bad":1}}}`
			}
			s.publish("fleets.up."+r.name+".shadow.update", report)
		}
	}
	s.link.Restore()
	for _, r := range rows {
		s.publish("fleets.up."+r.name+".shadow.update", `{"state":{"reported":{"last":true}}}`)
	}
	for _, r := range rows {
		letter := s.letter("fleets.dead.up." + r.name + ".shadow.update")
		if !strings.Contains(string(letter.Data()), `"bad":1`) || letter.Headers().Get("Fleets-Error-Code") != "refused" {
			t.Errorf("%s: the dead letter is %s %s", r.name, letter.Headers().Get("Fleets-Error"), letter.Data())
		}
		s.whole(r.name, map[string]string{"last": "true", "r1": "true", "r18": "true", "bad": ""})
		s.status(r.name, func(v string) bool {
			return gjson.Get(v, "queued").Int() == 0 && gjson.Get(v, "lastError").String() == ""
		})
	}
	if n := s.stored("FLEETS_DEAD"); n != uint64(len(rows)) {
		t.Errorf("%d dead letters", n)
	}
}

// A rule of the broker that forbids a kind holds it back: nothing dies, the other kinds pass, the Thing is not ready and says why,
// also over a restart of the bridge, and everything goes in order when it is allowed again.
func TestKindForbiddenForAWhile(t *testing.T) {
	t.Parallel()
	simOnly(t)
	for name, filter := range map[string]string{"events": "$emqx/things/pump-07/events/#", "reports": reportTopic, "responses": "$emqx/commands/things/pump-07/executions/+/response"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits more than it works
			n := 40
			if name == "events" {
				n = 300 // more than are on their way at a time
			}
			kind := map[string]string{"events": "events", "reports": "shadow", "responses": "commands"}[name]
			s := open(t, expect("messages wait", "connection lost"))
			s.sim.Broker().DenyPublish(filter, 0x87)
			for i := range n {
				switch name {
				case "events":
					s.publish("fleets.up.pump-07.events.n", event(i))
				case "reports":
					s.publish("fleets.up.pump-07.shadow.update", fmt.Sprintf(`{"state":{"reported":{"n":%d,"r%d":1}}}`, i, i%7))
				default:
					s.publish(fmt.Sprintf("fleets.up.pump-07.commands.e%d.response", i), `{"status":"SUCCEEDED"}`)
				}
			}
			s.status("pump-07", func(v string) bool { return strings.Contains(gjson.Get(v, "lastError").String(), "0x87") })
			if page := s.get("/readyz"); !strings.HasPrefix(page, "503") || !strings.Contains(page, `"part":"`+kind+`"`) {
				t.Error(page)
			}
			if page := s.get("/metrics"); !strings.Contains(page, `fleetbridge_stalled{kind="`+kind+`",thing="pump-07"} 1`) {
				t.Error(grep(page, "stalled"))
			}
			if name != "events" {
				s.publish("fleets.up.pump-07.events.other", `{"eventType":"other","severity":"info"}`)
				s.arrives("$emqx/things/pump-07/events/other", "")
			}
			if _, code := s.request("fleets.req.pump-07.jobs.get", ""); code != "" {
				t.Errorf("a question: %s", code)
			}
			s.restart()
			s.status("pump-07", func(v string) bool { return strings.Contains(gjson.Get(v, "lastError").String(), "0x87") })
			s.sim.Broker().AllowAll()
			if _, err := s.sim.WaitPublish(s.context(), func(p fleetsim.Publish) bool {
				i, is := numbered(p)
				return is && i == n-1 && p.Refused == 0
			}); err != nil {
				t.Fatalf("the last one does not come: %v", err)
			}
			s.status("pump-07", func(v string) bool {
				return gjson.Get(v, "queued").Int() == 0 && gjson.Get(v, "lastError").String() == ""
			})
			if page := s.get("/readyz"); !strings.HasPrefix(page, "200") {
				t.Error(page)
			}
			if n := s.stored("FLEETS_DEAD"); n != 0 {
				t.Errorf("%d dead letters", n)
			}
			last := -1
			for _, p := range s.sim.Received() {
				i, is := numbered(p)
				switch {
				case !is || p.Refused != 0:
				case i < last:
					t.Fatalf("%d came behind %d", i, last)
				default:
					last = i
				}
			}
		})
	}
}

// numbered reads the number of a message of TestKindForbiddenForAWhile.
func numbered(p fleetsim.Publish) (n int, is bool) {
	switch {
	case p.Topic == "$emqx/things/pump-07/events/n":
		return int(gjson.GetBytes(p.Payload, "data.n").Int()), true
	case p.Topic == reportTopic:
		return int(gjson.GetBytes(p.Payload, "state.reported.n").Int()), true
	}
	read, err := fmt.Sscanf(p.Topic, "$emqx/commands/things/pump-07/executions/e%d/response", &n)
	return n, read == 1 && err == nil
}

// stored counts what a stream holds.
func (s *site) stored(stream string) uint64 {
	s.t.Helper()
	is, err := s.js.Stream(s.context(), stream)
	if err != nil {
		s.t.Fatal(err)
	}
	return is.CachedInfo().State.Msgs
}
