package clerk

import (
	"encoding/json"
	"strings"
	"testing"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// FuzzConsumerRequest: whatever a user asks of a consumer, what JetStream is asked for reads the user's own and
// delivers into the user's own inbox.
func FuzzConsumerRequest(f *testing.F) {
	for _, seed := range []string{
		`{"config":{}}`, `{"config":{"filter_subject":"fleets.down.>","deliver_subject":"_INBOX_alice.x"}}`, `{"config":{"filter_subjects":["fleets.down.*.jobs.>","*.*.a.>"]}}`,
		`{"config":{"filter_subject":"fleets.down.b.>"}}`, `{"config":{"deliver_subject":"_INBOX_alice.>","filter_subject":">"}}`, `{"config":{"name":"x_1","durable_name":""}}`,
		`{"config":{"deliver_subject":"_INBOX.0"}}`, `{"config":{"deliver_subject":"_INBOX_bob.0"}}`, `{"config":{"deliver_subject":"_INBOX_alice..","filter_subject":"fleets.down.a..x"}}`, `{"config":{"filter_subjects":["fleets.>.a","*.>"]}}`,
	} {
		f.Add(seed)
	}
	s, err := mapping.NewSubjects("fleets")
	if err != nil {
		f.Fatal(err)
	}
	r := newReader(&Clerk{life: f.Context(), subjects: s}, access.User{Name: "alice", Things: []mapping.Thing{"a", "com.acme.c"}})
	own := r.own("FLEETS_DOWN")
	f.Fuzz(func(t *testing.T, body string) {
		var q consumerRequest
		if json.Unmarshal([]byte(body), &q) != nil {
			return
		}
		c, err := r.permitted("FLEETS_DOWN", &q)
		if err != nil {
			return
		}
		for _, filter := range c.Filters {
			if !strings.HasPrefix(filter, "fleets.down.a.") && !strings.HasPrefix(filter, "fleets.down.com=2Eacme=2Ec.") || !wire.Covered(filter, own) {
				t.Errorf("%s: reads %s", body, filter)
			}
		}
		private := strings.HasPrefix(c.DeliverTo, "_fleets.deliver.alice._INBOX.") || strings.HasPrefix(c.DeliverTo, "_fleets.deliver.alice._INBOX_alice.")
		if c.DeliverTo != "" && (!private || strings.ContainsAny(c.DeliverTo, "*> ")) {
			t.Errorf("%s: delivers to %s", body, c.DeliverTo)
		}
		if len(c.Filters) == 0 || !strings.HasPrefix(c.Name, "alice=") || strings.ContainsAny(c.Name, ".*> ") || len(c.Name) > 200 || c.Inactive > MaxInactive {
			t.Errorf("%s: %+v", body, c)
		}
	})
}
