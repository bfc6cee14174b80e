package local

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// TestStreamIsFoundBySubject: clients that name no stream find FLEETS_DOWN and FLEETS_DEAD, and streams of others as
// without us.
func TestStreamIsFoundBySubject(t *testing.T) {
	t.Parallel()
	r := newRig(t, "a")
	nc := r.program()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "MINE", Subjects: []string{"mine.>"}}); err != nil {
		t.Fatal(err)
	}
	for subject, want := range map[string]string{
		"fleets.down.a.>": "FLEETS_DOWN", "fleets.down.a.jobs.notify": "FLEETS_DOWN", "fleets.down.>": "FLEETS_DOWN", "fleets.dead.>": "FLEETS_DEAD",
		"mine.x": "MINE", "$KV.FLEETS_SHADOW.a": "KV_FLEETS_SHADOW",
	} {
		if got, err := js.StreamNameBySubject(ctx, subject); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", subject, got, err, want)
		}
	}
	if got, err := js.StreamNameBySubject(ctx, "fleets.downs.a"); err == nil {
		t.Errorf("a subject that is nobody's is found in %s", got)
	}
	all := map[string]bool{}
	for name := range js.StreamNames(ctx).Name() {
		all[name] = true
	}
	for _, name := range []string{"MINE", "FLEETS_DOWN", "FLEETS_DEAD", "KV_FLEETS_STATUS"} {
		if !all[name] {
			t.Errorf("%s is not among all streams: %v", name, all)
		}
	}
	down(t, r, notice("a", `{"n":1}`))
	old, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	sub, err := old.SubscribeSync("fleets.down.a.>")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := sub.NextMsg(patience); err != nil || string(m.Data) != `{"n":1}` {
		t.Errorf("replayed %v, %v", m, err)
	}
	pull, err := old.PullSubscribe("fleets.down.a.>", "mine")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pull.Fetch(1, nats.MaxWait(patience)); err != nil || len(got) != 1 {
		t.Errorf("pulled %v, %v", got, err)
	}
}

// TestManyStreamNames: pages of names go on where the one before ended.
func TestManyStreamNames(t *testing.T) {
	t.Parallel()
	r := newRig(t, "a")
	js, err := jetstream.New(r.program())
	if err != nil {
		t.Fatal(err)
	}
	const more = 300 // a page of the server's has 256
	for n := range more {
		if _, err := js.CreateStream(testContext(t), jetstream.StreamConfig{Name: fmt.Sprintf("S%d", n), Storage: jetstream.MemoryStorage, Subjects: []string{fmt.Sprintf("s.%d", n)}}); err != nil {
			t.Fatal(err)
		}
	}
	found := map[string]bool{}
	for name := range js.StreamNames(testContext(t)).Name() {
		found[name] = true
	}
	if len(found) != more+5 {
		t.Errorf("%d names", len(found))
	}
}

// notice is one of the cloud's messages.
func notice(thing mapping.Thing, payload string) bridge.Message {
	return bridge.Message{Address: mapping.Address{Thing: thing, Channel: mapping.JobsNotify}, Payload: []byte(payload)}
}
