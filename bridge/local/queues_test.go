package local

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/embedded"
	"fleetbridge/mapping"
)

func TestSubjectKey(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string]queueKey{
		"fleets.up.pump.shadow.update":           {"pump", mapping.Shadow},
		"fleets.up.com=2Eacme.events.a":          {"com=2Eacme", mapping.Events},
		"fleets.up.pump.jobs.j.update":           {"pump", mapping.Jobs},
		"fleets.up.events.commands.x.response":   {"events", mapping.Commands},
		subjects(t).Kind("shadow", mapping.Jobs): {"shadow", mapping.Jobs},
	} {
		if got := subjectKey(subject, "fleets.up.>"); got != want {
			t.Errorf("%s: %+v", subject, got)
		}
	}
}

// TestKindThatStandsStill: nobody settles the events, and the reports behind tens of thousands of them come, before a
// restart and after it.
func TestKindThatStandsStill(t *testing.T) {
	t.Parallel()
	const n = 3 * feedMessages
	r := newRigWith(t, embedded.Config{}, StoreConfig{})
	nc := r.program()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	events, stop := r.run("pump", mapping.Events)
	for i := range n {
		if _, err := js.PublishAsync("fleets.up.pump.events.x", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		if i%512 == 511 {
			<-js.PublishAsyncComplete()
		}
	}
	<-js.PublishAsyncComplete()
	report := func(payload string) {
		t.Helper()
		r.publish(nc, "fleets.up.pump.shadow.update", payload)
		d := next(t, events.lanes.feeds[mapping.Shadow])
		if string(d.Payload) != payload {
			t.Fatalf("%s, want %s", d.Payload, payload)
		}
		d.Settle()
	}
	report("1")
	report("2")
	next(t, events) // taken, never settled
	if err := events.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if got := r.spool.lent.Load(); got <= 0 || got > 2*feedBytes {
		t.Errorf("%d bytes are handed out", got)
	}
	stop()
	r.stop()
	r.start(embedded.Config{}, StoreConfig{})
	nc = r.program()
	events, _ = r.run("pump", mapping.Events)
	report("3")
	for i := range n { // in order, from the first
		d := next(t, events)
		if string(d.Payload) != fmt.Sprint(i) {
			t.Fatalf("%s, want %d", d.Payload, i)
		}
		d.Settle()
	}
	if got := r.spool.lent.Load(); got != 0 {
		t.Errorf("%d bytes are handed out, with nothing there", got)
	}
}
