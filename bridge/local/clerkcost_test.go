package local

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/clerk"
	"fleetbridge/mapping"
)

// TestCostlyConsumers: JetStream compares the filters of a consumer each with each other, also when nobody waits for the
// answer any more. A megabyte of them would keep the processor busy for a minute.
func TestCostlyConsumers(t *testing.T) {
	t.Parallel()
	inYards(t, []access.User{{Name: "alice", Things: []mapping.Thing{"a"}}}, func(t *testing.T, y *yard) {
		nc := y.as("alice")
		for what, n := range map[string]int{"has 10": 10, "and a consumer may have": 2000, "and may have 65536": 20_000} {
			var filters []string
			for i := range n {
				filters = append(filters, fmt.Sprintf("fleets.down.a.events.e%d", i))
			}
			list, _ := json.Marshal(filters)
			m, err := nc.Request("$JS.API.CONSUMER.CREATE.FLEETS_DOWN.n", fmt.Appendf(nil, `{"config":{"filter_subjects":%s}}`, list), patience)
			if err != nil {
				t.Fatalf("%d: %v", n, err)
			}
			got := gjson.GetBytes(m.Data, "error.description").String()
			if n == 10 {
				got = "has " + gjson.GetBytes(m.Data, "config.filter_subjects.#").String()
			}
			if !strings.Contains(got, what) {
				t.Errorf("%d filters: %.300s", n, m.Data)
			}
		}
	})
}

// TestHeartbeatsOfPulls: a pull that asks for a heartbeat each nanosecond is refused, also in an acknowledgement, which
// does not come by the clerk.
func TestHeartbeatsOfPulls(t *testing.T) {
	t.Parallel()
	inYards(t, []access.User{{Name: "alice", Things: []mapping.Thing{"a"}}}, func(t *testing.T, y *yard) {
		ctx := testContext(t)
		nc := y.as("alice")
		y.hint("a", "first")
		consumer, err := stream(t, nc).CreateConsumer(ctx, "FLEETS_DOWN", jetstream.ConsumerConfig{Name: "n", AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			t.Fatal(err)
		}
		if c := consumer.CachedInfo(); len(c.Config.PriorityGroups) > 0 || len(c.PriorityGroups) > 0 || c.Config.PriorityPolicy != jetstream.PriorityPolicyNone {
			t.Errorf("alice sees the group: %+v", c)
		}
		m, err := consumer.Next(jetstream.FetchMaxWait(patience))
		if err != nil || string(m.Data()) != "first" {
			t.Fatalf("%v, %v", m, err)
		}
		endless := `{"batch":1,"expires":3600000000000,"Idle_Heartbeat":1}`
		answers, err := nc.SubscribeSync("_INBOX_alice.x.*")
		if err != nil {
			t.Fatal(err)
		}
		status := func(what, reply, want string) {
			t.Helper()
			got, err := answers.NextMsg(patience)
			if err != nil || got.Header.Get("Status") != "400" || got.Subject != reply || !strings.Contains(got.Header.Get("Description"), want) {
				t.Errorf("%s: %+v, %v", what, got, err)
			}
		}
		if err := nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.FLEETS_DOWN.n", "_INBOX_alice.x.1", []byte(endless)); err != nil {
			t.Fatal(err)
		}
		status("pull", "_INBOX_alice.x.1", "idle_heartbeat")
		if err := nc.PublishRequest(m.Reply(), "_INBOX_alice.x.2", []byte("+NXT "+endless)); err != nil {
			t.Fatal(err)
		}
		status("acknowledgement", "_INBOX_alice.x.2", "Priority Group")
		long := "_INBOX_alice.x." + strings.Repeat("y", 300)
		if err := nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.FLEETS_DOWN.n", long, []byte("1")); err != nil {
			t.Fatal(err)
		}
		status("long reply subject", long, "a pull's may have 256")
		for i, body := range []string{"", "1", " 1", `{"batch":1,"no_wait":true,"expires":60000000000}`, `{"batch":1,"expires":60000000000,"idle_heartbeat":30000000000}`, "+NXT", "+NXT 1"} {
			y.hint("a", fmt.Sprint(i))
			to := "$JS.API.CONSUMER.MSG.NEXT.FLEETS_DOWN.n"
			if strings.HasPrefix(body, "+") {
				to = m.Reply()
			}
			if err := nc.PublishRequest(to, "_INBOX_alice.x.3", []byte(body)); err != nil {
				t.Fatal(err)
			}
			if got, err := answers.NextMsg(patience); err != nil || string(got.Data) != fmt.Sprint(i) {
				t.Errorf("%q: %+v, %v", body, got, err)
			}
		}
	})
}

// TestConsumersOfOlderVersions: a durable consumer that a version without priority groups has made gets one.
func TestConsumersOfOlderVersions(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "alice"})
	ctx := testContext(t)
	config := jetstream.ConsumerConfig{Name: "alice=SECRET=d", Durable: "alice=SECRET=d", FilterSubject: "fleets.down.a.>", AckPolicy: jetstream.AckExplicitPolicy}
	if _, err := r.store.js.CreateConsumer(ctx, "FLEETS_DOWN", config); err != nil {
		t.Fatal(err)
	}
	clerk, err := clerk.Serve(r.nc, r.subjects, []access.User{{Name: "alice", Password: "secret", Things: []mapping.Thing{"a"}}}, nil, r.journal.log())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(clerk.Close)
	made, err := r.store.js.Consumer(ctx, "FLEETS_DOWN", config.Durable)
	if err != nil {
		t.Fatal(err)
	}
	group := clerk.Known("alice", "FLEETS_DOWN")["d"]
	if got := made.CachedInfo().Config; got.PriorityPolicy != jetstream.PriorityPolicyOverflow || len(got.PriorityGroups) != 1 || got.PriorityGroups[0] != group {
		t.Errorf("%+v, the group is %q", got, group)
	}
}
