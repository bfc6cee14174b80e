package local

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/mapping"
)

// TestRelay: what is published with an interval of syncs is stored in its order and as it was, also of those who
// want no PubAck, and whoever asks something of the server gets the stream's own answer.
func TestRelay(t *testing.T) {
	r := newRigWith(t, ServerConfig{SyncInterval: time.Second}, StoreConfig{Relaxed: true})
	nc := r.program()
	js := stream(t, nc)
	for i := range 50 {
		m := nats.NewMsg("fleets.up.pump.events.x")
		m.Data = fmt.Append(nil, i)
		m.Header.Set("traceparent", fmt.Sprint("trace-", i))
		m.Header.Set(headerBatchCommit, "1")
		if i%2 == 0 {
			if err := nc.PublishMsg(m); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if ack, err := js.PublishMsg(testContext(t), m); err != nil || ack.Stream != "FLEETS_UP_TELEMETRY" || ack.Sequence != uint64(i+1) {
			t.Fatalf("%d: %+v, %v", i, ack, err)
		}
	}
	_, err := js.Publish(testContext(t), "fleets.up.pump.events.x", []byte(`{}`), jetstream.WithExpectLastSequence(7))
	if apiCode(err) != jetstream.JSErrCodeStreamWrongLastSequence {
		t.Errorf("error %v", err)
	}
	if _, err := js.Publish(testContext(t), "fleets.up.other.events.x", []byte(`{}`)); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("another Thing: error %v", err)
	}
	q, _ := r.run("pump", mapping.Telemetry)
	for i := range 50 {
		if d := next(t, q); string(d.Payload) != fmt.Sprint(i) || d.Trace.Parent != fmt.Sprint("trace-", i) || d.Origin != "fleets.up.pump.events.x" {
			t.Errorf("%d: %+v", i, d)
		}
	}
	raw, err := r.store.up[mapping.Telemetry].GetMsg(testContext(t), 50)
	if err != nil || len(raw.Header) != 1 {
		t.Errorf("stored with %v, %v", raw, err)
	}
}

// TestRelayWithoutJetStream: a program hears at once that nothing is stored now.
func TestRelayWithoutJetStream(t *testing.T) {
	r := newRigWith(t, ServerConfig{SyncInterval: time.Second}, StoreConfig{Relaxed: true})
	r.journal.forgive("NATS connection lost")
	nc := r.program()
	if err := r.server.stopJetStream(); err != nil {
		t.Fatal(err)
	}
	if answer := r.publish(nc, "fleets.up.pump.events.x", "1"); answer != answerFailed {
		t.Error(answer)
	}
	if err := r.server.startJetStream(); err != nil {
		t.Fatal(err)
	}
	if answer := r.publish(nc, "fleets.up.pump.events.x", "1"); strings.Contains(answer, "error") {
		t.Error(answer)
	}
}

// TestLongSubjects: the bridge's own subjects are longer than a program's, and the server ends a connection for a line
// that is too long.
func TestLongSubjects(t *testing.T) {
	for name, relaxed := range map[string]bool{"groups": false, "relay": true} {
		t.Run(name, func(t *testing.T) {
			r := newRigWith(t, ServerConfig{SyncInterval: time.Second}, StoreConfig{Relaxed: relaxed})
			nc := r.program()
			prefix := "fleets.up.pump.events."
			for _, length := range []int{1000, 2000, 3900, 4000, 4020, 4040, 4050, 4080} {
				if err := nc.PublishRequest(prefix+strings.Repeat("x", length-len(prefix)), "r", []byte(`1`)); err != nil {
					t.Fatal(err)
				}
				flush(t, nc)
			}
			if answer := r.publish(nc, prefix+"y", "1"); strings.Contains(answer, "error") {
				t.Error(answer)
			}
			if answer := r.publish(nc, prefix+strings.Repeat("x", 3000), "1"); !strings.Contains(answer, `"code":400`) || !strings.Contains(answer, "subject is longer") {
				t.Error(answer)
			}
			if n := r.store.cfg.Intake.Stats().Reconnects; n != 0 {
				t.Errorf("%d reconnections", n)
			}
		})
	}
}

// TestRelayThings: Things come and go without a restart.
func TestRelayThings(t *testing.T) {
	r := newRigWith(t, ServerConfig{SyncInterval: time.Second}, StoreConfig{Relaxed: true})
	ctx := testContext(t)
	if err := r.store.SetThings(ctx, []mapping.Thing{"valve"}); err != nil {
		t.Fatal(err)
	}
	js := stream(t, r.program())
	if _, err := js.Publish(ctx, "fleets.up.pump.events.x", []byte(`1`)); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("a Thing that went: error %v", err)
	}
	if _, err := js.Publish(ctx, "fleets.up.valve.events.x", []byte(`1`)); err != nil {
		t.Error(err)
	}
	if err := r.store.SetThings(ctx, []mapping.Thing{"pump", "valve"}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "fleets.up.pump.events.x", []byte(`1`)); err != nil {
		t.Errorf("a Thing that came: error %v", err)
	}
}

// TestRelayAfterGroups: a stream that keeps its mode because it holds messages goes on to be stored in, either way.
func TestRelayAfterGroups(t *testing.T) {
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprint("relaxed first: ", first), func(t *testing.T) {
			interval := ServerConfig{SyncInterval: time.Second}
			r := newRigWith(t, interval, StoreConfig{Relaxed: first})
			for n, relaxed := range []bool{first, !first, first} {
				if n > 0 {
					r.stop()
					r.journal.forgive("nats.embedded.sync was changed")
					r.start(interval, StoreConfig{Relaxed: relaxed})
				}
				if answer := r.publish(r.program(), "fleets.up.pump.events.x", fmt.Sprint(n)); !strings.Contains(answer, fmt.Sprintf(`"seq":%d`, n+1)) {
					t.Fatal(answer)
				}
			}
			q, _ := r.run("pump", mapping.Telemetry)
			for n := range 3 {
				if d := next(t, q); string(d.Payload) != fmt.Sprint(n) {
					t.Errorf("%s, want %d", d.Payload, n)
				}
			}
		})
	}
}
