package local

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/mapping"
)

// TestIntake: many publishes without waiting, each answered with its own sequence, stored and handed out in order; with
// every message synced, and with an interval.
func TestIntake(t *testing.T) {
	t.Parallel()
	for name, relaxed := range map[string]bool{"synced": false, "relaxed": true} {
		t.Run(name, func(t *testing.T) { takesIn(t, newRelaxed(t, relaxed)) })
	}
}

func takesIn(t *testing.T, r *rig) {
	q, _ := r.run("pump", mapping.Events)
	nc := r.program()
	inbox, err := nc.SubscribeSync("acks.*")
	if err != nil {
		t.Fatal(err)
	}
	const n = 2000
	for i := range n {
		if err := nc.PublishRequest("fleets.up.pump.events.x", fmt.Sprintf("acks.%d", i), []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	var seqs []uint64
	for i := range n {
		m, err := inbox.NextMsgWithContext(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		ack, err := streams.PubAck(m)
		if err != nil || ack.Stream != "FLEETS_UP_TELEMETRY" || m.Subject != fmt.Sprintf("acks.%d", i) || i > 0 && ack.Sequence <= seqs[i-1] {
			t.Fatalf("%s on %s, %v", m.Data, m.Subject, err)
		}
		seqs = append(seqs, ack.Sequence)
	}
	for i := range n {
		d := next(t, q)
		if string(d.Payload) != strconv.Itoa(i) || d.Sequence != seqs[i] {
			t.Fatalf("message %d is %s, sequence %d", i, d.Payload, d.Sequence)
		}
		d.Settle()
	}
}

// TestIntakeRefusals: one message that is refused takes no other along, and gets an answer of its own.
func TestIntakeRefusals(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{MaxPayload: 64 << 10}, StoreConfig{})
	nc := r.program()
	large := strings.Repeat("x", 60<<10) // beyond the stream's limit, not the server's
	for i, c := range []struct{ data, header, value, want string }{
		{data: "a", want: `{"stream":"FLEETS_UP_TELEMETRY","seq":`}, {data: large, want: `"err_code":10054`}, {data: "a", want: `"seq":`},
		{data: "d", header: "Nats-Expected-Last-Sequence", value: "7", want: `not supported here`}, {data: "d", header: "Nats-Expected-Stream", value: "X", want: `"err_code":10060`},
		{data: "d", header: "Nats-Expected-Stream", value: "FLEETS_UP_TELEMETRY", want: `"seq":`},
		{data: "b", header: "Nats-Msg-Id", value: "1", want: `"seq":`}, {data: "b", header: "Nats-Msg-Id", value: "1", want: `"duplicate":true}`},
	} {
		m := nats.NewMsg("fleets.up.pump.events.x")
		m.Data = []byte(c.data)
		if c.header != "" {
			m.Header.Set(c.header, c.value)
		}
		answer, err := nc.RequestMsgWithContext(testContext(t), m)
		if err != nil || !strings.Contains(string(answer.Data), c.want) {
			t.Errorf("answer %d is %s, %v, want %s", i, answer.Data, err, c.want)
		}
	}
}

// TestDuplicatesAcrossARestart: a message id is known after a restart too, with the PubAck's number.
func TestDuplicatesAcrossARestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	publish := func() *jetstream.PubAck {
		t.Helper()
		ack, err := stream(t, r.program()).Publish(testContext(t), "fleets.up.pump.events.x", []byte("1"), jetstream.WithMsgID("one"))
		if err != nil {
			t.Fatal(err)
		}
		return ack
	}
	first := publish()
	q, stop := r.run("pump", mapping.Events)
	next(t, q).Settle()
	stop()
	for range 2 {
		r.stop()
		r.start(embedded.Config{}, StoreConfig{})
		if again := publish(); !again.Duplicate || again.Sequence != first.Sequence || again.Stream != first.Stream {
			t.Errorf("%+v, want the duplicate of %+v", again, first)
		}
	}
	if n := queuedOf(t, r, "pump"); n != 0 {
		t.Errorf("%d are queued", n)
	}
}

// TestThingsComeAndGo without a restart.
func TestThingsComeAndGo(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	ctx := testContext(t)
	if err := r.spool.SetThings(ctx, []mapping.Thing{"valve"}); err != nil {
		t.Fatal(err)
	}
	js := stream(t, r.program())
	if _, err := js.Publish(ctx, "fleets.up.pump.events.x", []byte(`1`)); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("a Thing that went: error %v", err)
	}
	if _, err := js.Publish(ctx, "fleets.up.valve.events.x", []byte(`1`)); err != nil {
		t.Error(err)
	}
	if err := r.spool.SetThings(ctx, []mapping.Thing{"pump", "valve"}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "fleets.up.pump.events.x", []byte(`1`)); err != nil {
		t.Errorf("a Thing that came: error %v", err)
	}
}

// TestLongSubjects: no subject costs the bridge its connection.
func TestLongSubjects(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	r.journal.forgive("refused what a program published")
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
	if n := r.spool.cfg.Intake.Stats().Reconnects; n != 0 {
		t.Errorf("%d reconnections", n)
	}
}

// TestWithoutJetStream: what programs publish is taken all the same.
func TestWithoutJetStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, "pump")
	r.journal.forgive("NATS connection lost")
	nc := r.program()
	start := r.stopJetStream()
	if answer := r.publish(nc, "fleets.up.pump.events.x", "1"); strings.Contains(answer, "error") {
		t.Error(answer)
	}
	start()
}
