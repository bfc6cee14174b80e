package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tidwall/gjson"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

const (
	slowPump = `{"name":"com.acme.pump","version":"1.0.0","schema":{"properties":{"rpm":{"type":"int","max":3000,"unit":"1/min"}},"edge":{}}}`
	fastPump = `{"name":"com.acme.pump","version":"1.1.0","schema":{"properties":{"rpm":{"type":"int","max":9000,"unit":"1/min"}}}}`
	fast     = `{"state":{"reported":{"rpm":5000}}}`
)

// typed is a site whose Thing has a Thing Type of the API.
func typed(t *testing.T, options ...siteOption) *site {
	simOnly(t)
	return open(t, append(options, edit(func(c *gateway.Config) { c.Things[0].TypeName = "com.acme.pump" }))...)
}

func (s *site) setType(text string) {
	s.t.Helper()
	if _, err := s.sim.SetThingType([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// answers asks until a report has this answer: a Thing Type comes into force behind the start.
func (s *site) answers(report, want string) {
	s.t.Helper()
	ctx := s.context()
	for {
		answer, code := s.request("fleets.req.pump-07.shadow.update", report)
		if code == want && (want == "" || strings.Contains(string(answer.Data), "must be an integer of at most 300")) {
			return
		}
		if ctx.Err() != nil {
			s.t.Fatalf("%s %s, want %q", code, answer.Data, want)
		}
	}
}

// A Thing Type of the API is in force soon, holds at a start without the API, and changes at a reload.
func TestThingTypeFetched(t *testing.T) {
	t.Parallel()
	s := typed(t, expect("can't be fetched", "is not understood", "shadow"))
	s.answers(fast, "") // there is none, and the Thing works
	s.setType(slowPump)
	s.reload(s.cfg)
	s.answers(fast, "400")
	s.sim.SetHTTPFault(&fleetsim.HTTPFault{Down: true})
	s.restart()
	if answer, code := s.request("fleets.req.pump-07.shadow.update", fast); code != "400" {
		t.Errorf("the kept Thing Type does not hold: %s %s", code, answer.Data)
	}
	s.sim.SetHTTPFault(nil)
	s.setType(fastPump)
	s.reload(s.cfg)
	s.answers(fast, "")
}

// What the API says, or what became of the kept file, does not keep a Thing from working; what was known holds.
func TestThingTypeRefused(t *testing.T) {
	t.Parallel()
	s := typed(t, expect("can't be fetched", "shadow", "HTTP"), func(o *siteOptions) {
		o.sim.HTTPFault = &fleetsim.HTTPFault{Path: "/api/v1/thing-types", Body: []byte(`{"schema":{"properties":{"rpm":{"type":"int","min":"x"}}}}`)}
	})
	s.answers(fast, "")
	s.setType(slowPump)
	s.sim.SetHTTPFault(nil)
	s.reload(s.cfg)
	s.answers(fast, "400")
	for _, fault := range []fleetsim.HTTPFault{{Status: 401}, {Status: 403}, {Status: 404}, {Status: 503}, {Body: []byte("<html>")}, {Body: []byte(`{"schema":{}}`)}} {
		fault.Path = "/api/v1/thing-types"
		before, err := s.sim.WaitRequests(s.context(), "GET", "/api/v1/thing-types", 1)
		if err != nil {
			t.Fatal(err)
		}
		s.sim.SetHTTPFault(&fault)
		s.reload(s.cfg)
		if _, err := s.sim.WaitRequests(s.context(), "GET", "/api/v1/thing-types", len(before)+1); err != nil {
			t.Fatal(err)
		}
		s.answers(fast, "400")
	}
	kept, err := filepath.Glob(filepath.Join(s.cfg.NATS.Embedded.StoreDir, "thing-types", "*.json"))
	if err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	s.stop()
	if err := os.WriteFile(kept[0], []byte(`{"schema":`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.ready()
	s.answers(fast, "")
}

// An API whose answer is another one each time does not have Things connect again and again: a schema that is the same changes
// nothing, and another one is asked for at a reload only.
func TestThingTypeThatAlwaysDiffers(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	var other atomic.Bool
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/thing-types/com.acme.pump" {
			http.NotFound(w, r)
			return
		}
		n, most := asked.Add(1), int64(3000)
		if other.Load() {
			most += n
		}
		fmt.Fprintf(w, `{"updatedAt":"%d","name":"com.acme.pump","schema":{"properties":{"rpm":{"type":"int","max":%d,"unit":"1/min"}}}}`, n, most)
	}))
	t.Cleanup(api.Close)
	s := open(t, withoutAPI(), startCut(), expect("shadow", "http", "cannot connect", "connection lost"), edit(func(c *gateway.Config) {
		c.Things[0].TypeName = "com.acme.pump"
		c.Fleets = gateway.Fleets{URL: api.URL, APIKey: "k", APISecret: "s"}
	}))
	s.link.Restore()
	s.answers(fast, "400") // in force
	s.status("pump-07", func(v string) bool { return gjson.Get(v, "subscribed").Bool() })
	before := s.link.Accepted()
	reload := func(n int64) {
		t.Helper()
		s.reload(s.cfg)
		for ctx := s.context(); asked.Load() < n; {
			if ctx.Err() != nil {
				t.Fatalf("the API was asked %d times", asked.Load())
			}
			s.answers(fast, "400") // as a pause
		}
	}
	reload(2)
	reload(3) // the answer before is dealt with
	if n := s.link.Accepted(); n != before {
		t.Errorf("%d connections for the same schema", n-before)
	}
	other.Store(true)
	reload(4)
	reload(5)
	reload(6)
	s.status("pump-07", func(v string) bool { return gjson.Get(v, "subscribed").Bool() })
	if n := s.link.Accepted() - before; n > 3 || asked.Load() != 6 {
		t.Errorf("%d connections, and the API was asked %d times", n, asked.Load())
	}
}
