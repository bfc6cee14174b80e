package console

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"fleetbridge/fleetsim"
	"fleetbridge/internal/explain"
)

// A dead letter is found, shows where it is wrong, is not sent again as it is, and goes away once it is sent mended.
func TestDeadLetters(t *testing.T) {
	s := open(t, nil)
	const bad = `{"eventType":"hot", "severity": "warning"}`
	for range 3 {
		s.publish("fleets.up.pump-07.events.hot", bad)
	}
	s.publish("fleets.up.pump=2E08.events.hot", "\xff")
	var all list[explain.Letter]
	s.until("four dead letters", func() bool {
		all = get[list[explain.Letter]](s, "dead")
		return len(all.Items) == 4
	})
	for query, want := range map[string]int{
		"thing=pump-07": 3, "thing=pump=2E08": 1, "code=schema": 3, "code=json": 1, "direction=down": 0, "direction=up&channel=event&limit=2": 2, "channel=shadow.report": 0,
	} {
		if got := get[list[explain.Letter]](s, "dead?"+query); len(got.Items) != want || got.Total != 4 {
			t.Errorf("%s: %+v", query, got)
		}
	}
	for _, query := range []string{"thing=a.b", "thing=*", "code=x", "direction=sideways", "channel=x", "before=x", "limit=501"} {
		if code, text := s.call(s.token, "GET", base+"dead?"+query, nil); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, code, text)
		}
	}
	var ids []uint64
	for _, l := range all.Items {
		if l.Thing == "pump-07" {
			ids = append(ids, l.ID)
		}
	}
	if !slices.IsSortedFunc(ids, func(a, b uint64) int { return int(b) - int(a) }) {
		t.Errorf("not the newest first: %v", ids)
	}
	one := get[letterAnswer](s, fmt.Sprint("dead/", ids[0]))
	if one.Text == nil || *one.Text != bad || one.Check == nil || one.Check.Accepted || len(one.Check.Details) != 1 {
		t.Fatalf("%+v", one)
	}
	if d := one.Check.Details[0]; d.Span == nil || bad[d.Span[0]:d.Span[1]] != `"warning"` {
		t.Errorf("%+v", d)
	}
	odd := get[list[explain.Letter]](s, "dead?thing=pump=2E08").Items[0]
	if other := get[letterAnswer](s, fmt.Sprint("dead/", odd.ID)); other.Base64 == nil || string(other.Base64) != "\xff" {
		t.Errorf("%+v", other)
	}
	act := func(what string, body any) []result {
		t.Helper()
		code, text := s.call(s.token, "POST", base+"dead/"+what, body)
		if code != http.StatusOK {
			t.Fatalf("%s: %d %s", what, code, text)
		}
		return decode[resultsAnswer](t, text).Results
	}
	got := act("replay", deadRequest{IDs: []uint64{ids[0], 99999}})
	if got[0].OK || !strings.Contains(got[0].Error, "/severity") || got[1].OK || !strings.Contains(got[1].Error, "no such dead letter") {
		t.Errorf("as it is: %+v", got)
	}
	worse, good := `{"eventType":"hot","severity":1}`, `{"eventType":"hot", "severity": "warn", "timestamp":1700000000000}`
	if got := act("replay", deadRequest{IDs: ids[:1], given: given{Payload: &worse}}); got[0].OK || len(got[0].Details) == 0 || got[0].Details[0].Span == nil {
		t.Errorf("edited for the worse: %+v", got)
	}
	if got := act("replay", deadRequest{IDs: ids[:1], given: given{Payload: &good}}); !got[0].OK {
		t.Errorf("mended: %+v", got)
	}
	_, err := s.sim.WaitPublish(s.context(), func(p fleetsim.Publish) bool { return string(p.Payload) == good })
	if err != nil {
		t.Fatal(err)
	}
	if got := act("discard", deadRequest{IDs: ids[1:2]}); !got[0].OK {
		t.Errorf("discard: %+v", got)
	}
	if got := act("replay", deadRequest{IDs: ids[2:], Force: true}); !got[0].OK {
		t.Errorf("forced: %+v", got)
	}
	for _, id := range ids {
		if code, _ := s.call(s.token, "GET", fmt.Sprint(base, "dead/", id), nil); code != http.StatusNotFound {
			t.Errorf("%d is still there: %d", id, code)
		}
	}
	for what, bodies := range map[string][]string{
		"replay":  {`{}`, `{"ids":[]}`, `{"ids":[1,2],"payload":"x"}`, `{"ids":[1],"payload":"x","payloadBase64":"eA=="}`, `{"ids":[1],"payloadBase64":"%"}`, `{"ids":["1"]}`},
		"discard": {`{"ids":[1],"payload":"x"}`, `{"ids":[` + strings.Repeat("1,", maxBulk) + `1]}`},
	} {
		for _, body := range bodies {
			if code, text := s.call(s.token, "POST", base+"dead/"+what, body); code != http.StatusBadRequest {
				t.Errorf("%s %.40s: %d %s", what, body, code, text)
			}
		}
	}
	if events := get[list[struct{ Message string }]](s, "events"); !slices.ContainsFunc(events.Items, func(e struct{ Message string }) bool {
		return e.Message == "dead letters were removed from the console"
	}) {
		t.Errorf("what was done is not noted: %+v", events)
	}
}

// However much somebody looks, the store has no consumer because of it.
func TestNoConsumers(t *testing.T) {
	s := open(t, nil)
	s.publish("fleets.up.pump-07.events.hot", "{}")
	consumers := func() (n int) {
		for name := range s.streams() {
			stream, err := s.js.Stream(s.context(), name)
			if err != nil {
				t.Fatal(err)
			}
			n += stream.CachedInfo().State.Consumers
		}
		return n
	}
	before := consumers()
	for _, e := range endpoints {
		if e.method == "GET" && e.stream == nil {
			s.call(s.token, "GET", e.filled(), nil)
		}
	}
	if after := consumers(); after != before {
		t.Errorf("%d consumers, and before %d", after, before)
	}
}
