package local

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/access"
	"fleetbridge/bridge/local/clerk"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/race"
	"fleetbridge/mapping"
)

// What users are not allowed can't be had: every attacker of a list, each with other rights on the Thing
// a, tries what there is on Bob's Thing b; the bridge and Bob see nothing of it.

func TestIsolationPublish(t *testing.T) {
	t.Parallel()
	inYards(t, suspects(), func(t *testing.T, y *yard) {
		y.attack(t, func(t *testing.T, _ string, nc *nats.Conn) {
			for _, subject := range foreign() {
				for _, h := range []nats.Header{nil, {"Nats-Rollup": {"all"}}, {"Nats-Trace-Dest": {"fleets.up.b.events.x"}}} {
					for _, reply := range []string{"", nc.NewRespInbox()} {
						if err := nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Header: h, Data: []byte("forged")}); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			flush(t, nc)
		}, func(t *testing.T, name, seen string) {
			if isForeign(t, name, seen); slices.Contains(foreign(), seen) {
				t.Errorf("%s reached %s", name, seen)
			}
		})
	})
}

// TestIsolationForgedReplies: what answers (JetStream, services, the bridge) answers the one who asked,
// wherever he wants the answer sent.
func TestIsolationForgedReplies(t *testing.T) {
	t.Parallel()
	inYards(t, suspects(), func(t *testing.T, y *yard) {
		y.attack(t, func(t *testing.T, name string, nc *nats.Conn) {
			asked := questions(name)
			for i, question := range slices.Sorted(maps.Keys(asked)) {
				body := asked[question]
				for j, target := range append(foreign(), "fleets.>", "fleets.*.b.events.x", ">", "$JS.API.>") {
					if (i+j)%race.Step() != 0 { // of each question and each target some
						continue
					}
					indirect := nats.Header{"Nats-Trace-Dest": {target}, "Nats-Schedule": {"@at 2020-01-01T00:00:00Z"}, "Nats-Schedule-Target": {target}}
					for _, m := range []*nats.Msg{{Subject: question, Reply: target, Data: body}, {Subject: question, Header: indirect, Data: body}} {
						if err := nc.PublishMsg(m); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			flush(t, nc)
		}, func(t *testing.T, name, seen string) {
			// What the attacker asked is seen, and the answers to it on subjects of the server's.
			_, asked := questions(name)[seen]
			if isForeign(t, name, seen); slices.Contains(foreign(), seen) && !asked && !strings.HasPrefix(seen, "_fleets.down.c") {
				t.Errorf("%s had an answer sent to %s", name, seen)
			}
		})
	})
}

// TestIsolationSniffing: whatever an attacker subscribes to, alone or in a queue group, he hears nothing
// of Bob, and takes nothing away from him.
func TestIsolationSniffing(t *testing.T) {
	t.Parallel()
	inYards(t, suspects(), func(t *testing.T, y *yard) {
		heard := make(chan *nats.Msg, 10_000)
		var conns []*nats.Conn
		wanted := append(foreign(), ">", "*", "*.>", "fleets.>", "fleets.*.b.>", "fleets.down.>", "fleets.down.*.jobs.notify", "fleets.cmd.>", "fleets.cmd.*.purge",
			"fleets.up.>", "fleets.req.>", "fleets.req.*.jobs.get", "fleets.dead.>", "_fleets.>", "_INBOX.>", "_INBOX_bob.>", "_INBOX*.>", "_R_.>", "$JS.>", "$JS.API.>",
			"$JS.ACK.>", "$JS.EVENT.>", "$KV.>", "$KV.FLEETS_SHADOW.>", "$SYS.>", "$SYS.ACCOUNT.>", "$SRV.>", "$O.>")
		for _, name := range attackers() {
			nc := y.as(name)
			conns = append(conns, nc)
			for _, subject := range wanted {
				for _, queue := range []string{"", "q", "bobs-group"} {
					if _, err := nc.ChanQueueSubscribe(subject, queue, heard); err != nil && !errors.Is(err, nats.ErrBadSubject) {
						t.Fatal(subject, err)
					}
				}
			}
			flush(t, nc)
		}
		bob := y.as("bob")
		handled := 0
		if _, err := bob.QueueSubscribe("fleets.cmd.b.purge", "bobs-group", func(m *nats.Msg) { handled++; _ = m.Respond([]byte("done")) }); err != nil {
			t.Fatal(err)
		}
		flush(t, bob)
		for range 20 {
			if reply, err := y.call("b", "purge"); err != nil || string(reply.Payload) != "done" {
				t.Fatalf("bob's handler: %+v, %v", reply, err)
			}
		}
		if _, err := y.call("b", "other"); !errors.Is(err, bridge.ErrNoHandler) {
			t.Errorf("somebody serves for bob: %v", err)
		}
		y.furnish()
		js := stream(t, bob)
		if got := ordered(t, js, 1, "fleets.down.b.>"); got[0] != "for b" {
			t.Error(got)
		}
		_ = pushed(t, bob, 1, nats.OrderedConsumer())
		for _, subject := range []string{"fleets.req.b.jobs.get", "fleets.up.b.jobs.get", "$SRV.PING", "$JS.API.DIRECT.GET.KV_FLEETS_SHADOW.$KV.FLEETS_SHADOW.b"} {
			if m, err := bob.Request(subject, nil, patience); err != nil || len(m.Data) == 0 {
				t.Errorf("%s: %v, %v", subject, m, err)
			}
		}
		kv, err := js.KeyValue(testContext(t), "FLEETS_SHADOW")
		if err != nil {
			t.Fatal(err)
		}
		if keys, err := kv.Keys(testContext(t)); err != nil || !slices.Equal(keys, []string{"b"}) {
			t.Error(keys, err)
		}
		flush(t, conns...) // what was meant for them is here now
		for len(heard) > 0 {
			m := <-heard
			if m.Subject != "fleets.down.a.jobs.notify" && !strings.HasPrefix(m.Subject, "$SRV.") { // furnish sends alice hers; pings are of her own account
				t.Errorf("on %s was heard %s", m.Sub.Subject, m.Subject)
			}
		}
	})
}

// TestIsolationReading: what the bodies of requests ask for is looked at.
func TestIsolationReading(t *testing.T) {
	t.Parallel()
	inYards(t, suspects(), func(t *testing.T, y *yard) {
		y.furnish()
		js := stream(t, y.as("bob"))
		theirs, err := js.CreateConsumer(testContext(t), "FLEETS_DOWN", jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		name := realNames(t, y.store.down)[0]
		for _, user := range []string{"alice", "read"} {
			nc := y.as(user)
			for subject, bodies := range map[string][]string{
				"CONSUMER.CREATE.FLEETS_DOWN.x": {
					`{"config":{"filter_subject":"fleets.down.b.>"}}`, `{"config":{"filter_subject":"fleets.down.b.jobs.notify"}}`, `{"config":{"filter_subjects":["fleets.down.b.>","fleets.down.b"]}}`,
					`{"config":{"deliver_subject":"_INBOX_bob.x"}}`, `{"config":{"deliver_subject":"fleets.up.b.events.x"}}`, `{"config":{"deliver_subject":"_INBOX_` + user + `.>"}}`,
					`{"config":{"deliver_subject":"_INBOX_` + user + `"}}`, `{"config":{"durable_name":"a.b"}}`, `{"config":{"durable_name":"d","name":"e"}}`, `{"config":{"durable_name":"bob=x=d"}}`, `{"action":"pedantic","config":{}}`, `{"config":{"deliver_group":"a b","deliver_subject":"_INBOX.x"}}`,
					`{"config":{"deliver_subject":"_INBOX.x.>"}}`, `{"config":{"deliver_subject":"_INBOXES.x"}}`, `{"config":{"deliver_subject":"_R_.x"}}`, `{"config":{"name":"a.b"}}`, `{"config":{"name":"` + name + `"}}`, `{"config":7}`, ``, `[`,
				},
				"CONSUMER.CREATE.FLEETS_DOWN.x.fleets.down.b.>": {`{"config":{"filter_subject":"fleets.down.b.>"}}`},
				"CONSUMER.CREATE.KV_FLEETS_SHADOW":              {`{"config":{"filter_subject":"$KV.FLEETS_SHADOW.b"}}`},
				"CONSUMER.DURABLE.CREATE.FLEETS_UP_CONTROL.d":   {`{"config":{"durable_name":"d"}}`},
				"CONSUMER.INFO.FLEETS_DOWN." + name:             {``},
				"CONSUMER.DELETE.FLEETS_DOWN." + name:           {``},
			} {
				for _, body := range bodies {
					m, err := nc.Request("$JS.API."+subject, []byte(body), patience)
					if err != nil || !strings.Contains(string(m.Data), `"error"`) {
						t.Errorf("%s: %s %s: %s, %v", user, subject, body, m.Data, err)
					}
				}
			}
			for _, body := range []string{
				`{"last_by_subj":"fleets.down.b.jobs.notify"}`, `{"next_by_subj":"fleets.down.>","seq":1}`, `{"next_by_subj":"fleets.down.*.jobs.notify"}`, `{"seq":2}`, `{}`, ``, `{"seq":2,"last_by_subj":"fleets.down.a.jobs.notify"}`,
				`{"multi_last":["fleets.down.b.>"]}`, `{"batch":10,"next_by_subj":"fleets.down.a.jobs.notify"}`, `{"last_by_subj":"fleets.down.a.x","seq":1,"next_by_subj":"fleets.down.b.jobs.notify"}`,
			} {
				m, err := nc.Request("$JS.API.DIRECT.GET.FLEETS_DOWN", []byte(body), patience)
				if err != nil || len(m.Data) != 0 || !strings.HasPrefix(m.Header.Get("Status"), "40") {
					t.Errorf("%s: %s: %+v, %v", user, body, m, err)
				}
				m, err = nc.Request("$JS.API.STREAM.MSG.GET.FLEETS_DOWN", []byte(body), patience)
				if err != nil || !strings.Contains(string(m.Data), `"error"`) {
					t.Errorf("%s: message %s: %+v, %v", user, body, m, err)
				}
			}
			m, err := nc.Request("$JS.API.STREAM.INFO.FLEETS_DOWN", []byte(`{"subjects_filter":">"}`), patience)
			if err != nil || strings.Contains(string(m.Data), "fleets.down.b") || !strings.Contains(string(m.Data), `"messages":0`) {
				t.Errorf("%s: %s, %v", user, m.Data, err)
			}
			if got := ordered(t, stream(t, nc), 1, "fleets.down.b.>", "fleets.down.a.>"); got[0] != "for a" { // what is left of it
				t.Error(got)
			}
		}
		if info, err := theirs.Info(testContext(t)); err != nil || info.NumPending == 0 {
			t.Errorf("bob's consumer: %+v, %v", info, err)
		}
		y.attackDurable(t)
	})
}

// TestIsolationConsumers: a user's consumers are bounded, and what is made too much takes the user's
// oldest away and nobody else's.
func TestIsolationConsumers(t *testing.T) {
	t.Parallel()
	r := withUsers(t, access.User{Name: "alice"}, access.User{Name: "bob", Things: []mapping.Thing{"b"}})
	bob := stream(t, r.login("bob"))
	theirs, err := bob.CreateConsumer(testContext(t), "FLEETS_DOWN", jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if got := theirs.CachedInfo().Config.InactiveThreshold; got != clerk.MaxInactive {
		t.Errorf("inactive threshold %s", got)
	}
	alice := r.login("alice")
	var names []string
	for i := range clerk.MaxConsumers + 10 {
		m, err := alice.Request("$JS.API.CONSUMER.CREATE.FLEETS_DOWN", []byte(`{"config":{"inactive_threshold":300000000000}}`), patience)
		var info struct{ Name string }
		if err == nil {
			err = json.Unmarshal(m.Data, &info)
		}
		if err != nil || info.Name == "" {
			t.Fatalf("%d: %s, %v", i, m.Data, err)
		}
		names = append(names, info.Name)
	}
	left := realNames(t, r.store.down)
	for i, want := range map[int]bool{0: false, 9: false, 10: true, len(names) - 1: true} {
		if got := slices.Contains(left, "alice="+names[i]+"="+names[i]); got != want {
			t.Errorf("consumer %d: %v", i, got)
		}
	}
	if _, err := theirs.Info(testContext(t)); err != nil {
		t.Error("bob's:", err)
	}
}

// realNames lists a stream's consumers by the names that JetStream has for them.
func realNames(t *testing.T, s jetstream.Stream) (out []string) {
	t.Helper()
	list := s.ConsumerNames(testContext(t))
	for name := range list.Name() {
		out = append(out, name)
	}
	if list.Err() != nil {
		t.Fatal(list.Err())
	}
	return out
}

func TestIntersect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ a, b, want string }{
		{"a.b", "a.b", "a.b"}, {"a.b", "a.c", ""}, {"a.>", "a.b.>", "a.b.>"}, {"a.b.c", "a.>", "a.b.c"}, {"a", "a.>", ""}, {"a.>", "a", ""},
		{"*.x", "a.>", "a.x"}, {"a.*.c", "a.b.>", "a.b.c"}, {">", "a.>", "a.>"}, {"a.*", "*.b", "a.b"}, {"a.*.>", "a.b", ""}, {"a..b", "a.>", ""}, {"", "a.>", ""},
		{"a.>.c", "a.b.c", ""}, {"a.>.c", "a.>", "a.>.c"},
	} {
		got, ok := wire.Intersect(c.a, c.b)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%s and %s: %q, %v", c.a, c.b, got, ok)
		}
	}
}
