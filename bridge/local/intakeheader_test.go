package local

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// inBothModes runs a test with two users, each with a Thing, where every message is synced, and with an interval.
func inBothModes(t *testing.T, f func(t *testing.T, r *rig)) {
	for name, relaxed := range map[string]bool{"synced": false, "relaxed": true} {
		t.Run(name, func(t *testing.T) {
			f(t, withUsersAs(t, intervalIf(relaxed), embedded.Config{}, StoreConfig{}, access.User{Name: "alice"}, access.User{Name: "bob", Things: []mapping.Thing{"b"}}))
		})
	}
}

// TestMessageIDsAreTheSubjectsOwn: an id that somebody used for his Thing is no duplicate for another.
func TestMessageIDsAreTheSubjectsOwn(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, r *rig) {
		alice, bob := stream(t, r.login("alice")), stream(t, r.login("bob"))
		for i, c := range []struct {
			js        jetstream.JetStream
			subject   string
			duplicate bool
		}{
			{alice, "fleets.up.a.events.x", false}, {alice, "fleets.up.a.events.x", true}, {bob, "fleets.up.b.events.x", false}, {bob, "fleets.up.b.events.x", true},
			{bob, "fleets.up.b.events.y", false}, {bob, "fleets.up.b.jobs.get", false},
		} {
			ack, err := c.js.Publish(testContext(t), c.subject, []byte(`{}`), jetstream.WithMsgID("reading-1"))
			if err != nil || ack.Duplicate != c.duplicate {
				t.Errorf("%d: %+v, %v", i, ack, err)
			}
		}
	})
}

// TestEmptyMessageIDs: an empty id is none, so no message is taken for a duplicate of another.
func TestEmptyMessageIDs(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, r *rig) {
		alice := rawLogin(t, r.server.URL(), "alice")
		for _, id := range []string{"", "", " ", "\t", "  "} {
			if _, data := alice.request("alice", "fleets.up.a.events.x", block("Nats-Msg-Id:"+id), `{}`); strings.Contains(data, "duplicate") || strings.Contains(data, "error") {
				t.Errorf("id %q: %s", id, data)
			}
		}
	})
}

// TestProgramsOpenNoBatches: a batch that never ends takes nothing from others.
func TestProgramsOpenNoBatches(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, r *rig) {
		alice := stream(t, r.login("alice"))
		for range 100 {
			m := nats.NewMsg("fleets.up.a.events.x")
			m.Header.Set(wire.HeaderBatchID, nats.NewInbox())
			m.Header.Set(wire.HeaderBatchNumber, "1")
			if _, err := alice.PublishMsg(testContext(t), m); wire.APICode(err) != wire.CodeBadRequest {
				t.Fatal(err)
			}
		}
		bob := stream(t, r.login("bob"))
		for i := range 100 {
			f, err := bob.PublishAsync("fleets.up.b.events.x", []byte(`{}`))
			if err != nil {
				t.Fatal(err)
			}
			if i == 99 {
				select {
				case <-f.Ok():
				case err := <-f.Err():
					t.Error(err)
				case <-testContext(t).Done():
					t.Error("no PubAck")
				}
			}
		}
	})
}

// TestStampedEvents: an event without a timestamp has the same one each time that it is read, and no other's.
func TestStampedEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump", "lamp")
	nc := r.program()
	publish := func(subject, payload string, forged string) {
		t.Helper()
		m := nats.NewMsg(subject)
		m.Data = []byte(payload)
		if forged != "" {
			m.Header.Set(wire.HeaderStamp, forged)
		}
		answer, err := nc.RequestMsg(m, streams.AnswerTime)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := streams.PubAck(answer); err != nil {
			t.Fatal(err)
		}
	}
	take := func(thing mapping.Thing, kind mapping.Kind, n int) (stamps []int64) {
		t.Helper()
		q, stop := r.run(thing, kind)
		defer stop()
		for range n {
			stamps = append(stamps, next(t, q).Stamp)
		}
		return stamps
	}
	before := time.Now().UnixMilli()
	for range 20 {
		publish("fleets.up.pump.events.x", `{}`, "")
	}
	publish("fleets.up.pump.events.x", `{"timestamp":7}`, "8")
	publish("fleets.up.pump.events.x", `{"data":{"timestamp":7}}`, "8")
	publish("fleets.up.pump.shadow.update", `{}`, "8")
	publish("fleets.up.lamp.events.x", `{}`, "")
	first := take("pump", mapping.Events, 22)
	for i, ms := range first {
		own := i < 20 || i == 21
		if own && (ms < before || i > 0 && i < 20 && ms <= first[i-1]) || !own && ms != 0 {
			t.Errorf("event %d: %d, after %v", i, ms, first[:i])
		}
	}
	if ms := take("pump", mapping.Shadow, 1)[0]; ms != 0 {
		t.Errorf("the report's: %d", ms)
	}
	if first[21] <= first[19] {
		t.Errorf("%v", first)
	}
	if ms := take("lamp", mapping.Events, 1)[0]; ms < before {
		t.Errorf("the lamp's: %d", ms)
	}
	r.stop()
	r.start(embedded.Config{}, StoreConfig{Things: []mapping.Thing{"pump", "lamp"}})
	if again := take("pump", mapping.Events, 22); !slices.Equal(again, first) {
		t.Errorf("%v after a restart, want %v", again, first)
	}
}
