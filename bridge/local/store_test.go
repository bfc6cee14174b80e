package local

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

func TestStreams(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{}, StoreConfig{
		Things: []mapping.Thing{"pump", "com.acme 7"},
		Up:     1 << 30, Down: Limits{MaxBytes: 1 << 20, MaxAge: time.Minute},
	})
	ctx := testContext(t)
	for _, c := range []struct {
		name       string
		subjects   string
		retention  jetstream.RetentionPolicy
		discard    jetstream.DiscardPolicy
		bytes      int64
		age        time.Duration
		duplicates time.Duration
	}{
		{"FLEETS_DOWN", "_fleets.down.>", jetstream.LimitsPolicy, jetstream.DiscardOld, 1 << 20, time.Minute, time.Minute},
		{"FLEETS_DEAD", "_fleets.dead.>", jetstream.LimitsPolicy, jetstream.DiscardOld, 1 << 30, 0, 2 * time.Minute},
	} {
		s, err := r.store.js.Stream(ctx, c.name)
		if err != nil {
			t.Fatal(c.name, err)
		}
		have := s.CachedInfo().Config
		if got := strings.Join(have.Subjects, " "); got != c.subjects {
			t.Errorf("%s: subjects %s", c.name, got)
		}
		if have.Retention != c.retention || have.Discard != c.discard || have.MaxBytes != c.bytes || have.MaxAge != c.age ||
			have.Storage != jetstream.FileStorage || have.Duplicates != c.duplicates {
			t.Errorf("%s: %+v", c.name, have)
		}
	}
	for name, storage := range map[string]jetstream.StorageType{
		"FLEETS_SHADOW": jetstream.FileStorage, "FLEETS_STATUS": jetstream.MemoryStorage, "FLEETS_MARKS": jetstream.FileStorage,
	} {
		s, err := r.store.js.Stream(ctx, "KV_"+name)
		if err != nil {
			t.Fatal(name, err)
		}
		have := s.CachedInfo().Config
		if have.Storage != storage || have.MaxMsgsPerSubject != 1 || have.MaxAge != 0 {
			t.Errorf("%s: %+v", name, have)
		}
	}
}

func TestUnknownThingIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	nc := r.program()
	for _, subject := range []string{"fleets.up.valve.events.x", "fleets.up.pump.nothing.x"} {
		if _, err := nc.Request(subject, nil, patience); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s: %v", subject, err)
		}
	}
}

func TestDuplicateMessageID(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	js, err := jetstream.New(r.program())
	if err != nil {
		t.Fatal(err)
	}
	for i, duplicate := range []bool{false, true} {
		ack, err := js.Publish(testContext(t), "fleets.up.pump.events.x", nil, jetstream.WithMsgID("one"))
		if err != nil || ack.Duplicate != duplicate || ack.Stream != "FLEETS_UP_TELEMETRY" {
			t.Errorf("%d: %+v, %v", i, ack, err)
		}
	}
}

func TestFullStreamTellsThePublisher(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{}, StoreConfig{Up: 4096})
	nc := r.program()
	payload := strings.Repeat("x", 1000)
	stored, answer := 0, ""
	for range 10 {
		answer = r.publish(nc, "fleets.up.pump.events.x", payload)
		if strings.Contains(answer, "maximum bytes exceeded") {
			break
		}
		stored++
	}
	if stored != 3 || !strings.Contains(answer, "maximum bytes exceeded") {
		t.Fatalf("%d stored, then %s", stored, answer)
	}
}

func TestStreamThatDoesNotFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		there jetstream.StreamConfig
		cfg   StoreConfig
		want  []string
	}{
		{"retention", jetstream.StreamConfig{Name: "FLEETS_UP_TELEMETRY", Subjects: []string{"a"}, Retention: jetstream.InterestPolicy}, StoreConfig{},
			[]string{"stream FLEETS_UP_TELEMETRY", "retention is Interest", "must be Limits", "nats stream rm FLEETS_UP_TELEMETRY", "nats.prefix"}},
		{"storage", jetstream.StreamConfig{Name: "FLEETS_DOWN", Subjects: []string{"a"}, Storage: jetstream.MemoryStorage}, StoreConfig{},
			[]string{"stream FLEETS_DOWN", "storage is Memory", "must be File"}},
		{"bucket storage", jetstream.StreamConfig{Name: "KV_FLEETS_SHADOW", Subjects: []string{"a"}, Storage: jetstream.MemoryStorage}, StoreConfig{},
			[]string{"stream KV_FLEETS_SHADOW", "storage is Memory", "must be File"}},
		{"overlap", jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"fleets.up.pump.jobs.*"}}, StoreConfig{},
			[]string{"stream FLEETS_UP_CONTROL", "subject fleets.up.pump.jobs.>", "captured by stream OTHER", "nats.prefix"}},
		{"bucket overlap", jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"$KV.FLEETS_MARKS.>"}}, StoreConfig{},
			[]string{"stream KV_FLEETS_MARKS", "captured by stream OTHER"}},
		{"replicas", jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"a"}}, StoreConfig{Replicas: 3},
			[]string{"stream FLEETS_UP_CONTROL", "replicas is 3", "nats.replicas"}},
		{"no things", jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"a"}}, StoreConfig{Things: []mapping.Thing{}, Embedded: true},
			[]string{"things is empty"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newJournal(t)
			nc, err := nats.Connect(plainServer(t, true))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			js, _ := jetstream.New(nc)
			if _, err := js.CreateStream(testContext(t), c.there); err != nil {
				t.Fatal(err)
			}
			c.cfg.Subjects = subjects(t)
			if c.cfg.Things == nil {
				c.cfg.Things = []mapping.Thing{"pump"}
			}
			_, err = Open(testContext(t), nc, c.cfg, j.log())
			if err == nil || !containsAll(err.Error(), c.want) {
				t.Errorf("error %v\nwant %q", err, c.want)
			}
		})
	}
}

func TestLimitsAndThingsChange(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{}, StoreConfig{Things: []mapping.Thing{"pump", "com.acme"}, Up: 1 << 20})
	nc := r.program()
	r.publish(nc, "fleets.up.com=2Eacme.events.x", `1`)
	r.publish(nc, "fleets.up.com=2Eacme.jobs.get", `2`)
	r.stop()

	r.start(embedded.Config{}, StoreConfig{Things: []mapping.Thing{"pump"}, Up: 2 << 20})
	nc = r.program()
	r.journal.expect(t, "WARN", "not configured", "thing=com.acme", "messages=2")
	if _, err := nc.Request("fleets.up.com=2Eacme.events.x", nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("publish for the removed Thing: %v", err)
	}
	r.stop()

	r.start(embedded.Config{}, StoreConfig{Things: []mapping.Thing{"com.acme"}})
	q, _ := r.run("com.acme", mapping.Events)
	if d := next(t, q); string(d.Payload) != "1" {
		t.Errorf("payload %s", d.Payload)
	}
}

func TestQueued(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump", "valve", "com.acme")
	nc := r.program()
	for _, s := range []string{"pump.events.a", "pump.events.b", "pump.events.b", "pump.jobs.get", "com=2Eacme.shadow.update"} {
		r.publish(nc, "fleets.up."+s, `{}`)
	}
	queued, err := r.up().Queued(testContext(t))
	if err != nil || len(queued) != 3 || queued["pump"] != 4 || queued["com.acme"] != 1 || queued["valve"] != 0 {
		t.Errorf("queued %v, %v", queued, err)
	}
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	a := mapping.Address{Thing: "pump", Channel: mapping.CommandResponse, ID: "e.1"}
	receipt, err := r.up().Enqueue(testContext(t), a, []byte(`{"status":"REJECTED"}`), bridge.Trace{})
	if err != nil || receipt.Stream != "FLEETS_UP_CONTROL" || receipt.Sequence == 0 {
		t.Fatal(receipt, err)
	}
	a.Thing = "valve"
	if _, err := r.up().Enqueue(testContext(t), a, nil, bridge.Trace{}); err == nil || !strings.Contains(err.Error(), "no stream takes fleets.up.valve.commands.e=2E1.response") {
		t.Errorf("error %v", err)
	}
}

func TestDeletedKeysOfLastingBucketsLeaveNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := testContext(t)
	b := r.store.bucket(wire.BucketMarks)
	count := func() uint64 {
		t.Helper()
		s, err := r.store.js.Stream(ctx, "KV_FLEETS_MARKS")
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State.Msgs
	}
	before := count()
	for _, key := range []string{"t.1", "t.2"} {
		if err := errors.Join(b.Put(ctx, key, []byte("x")), b.Delete(ctx, key)); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(); n != before {
		t.Errorf("%d messages, and %d before", n, before)
	}
}

func TestArchive(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := mapping.Address{Thing: "pump", Channel: mapping.ShadowDelta}
	if _, err := r.store.Last(testContext(t), a); !errors.Is(err, bridge.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for i := range 2 {
		payload, _ := json.Marshal(map[string]int{"version": i})
		down(t, r, bridge.Message{Address: a, Payload: payload, Received: at, Trace: bridge.Trace{Parent: "p"}, Source: bridge.SourceShadowGet})
	}
	m, err := r.store.Last(testContext(t), a)
	if err != nil {
		t.Fatal(err)
	}
	if m.Address != a || string(m.Payload) != `{"version":1}` || !m.Received.Equal(at) || m.Trace.Parent != "p" || m.Source != bridge.SourceShadowGet ||
		m.Origin != "$emqx/things/pump/shadow/update/delta" || m.Sequence != 2 {
		t.Errorf("%+v", m)
	}
}
