package local

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/mapping"
)

// TestMessageIDsAreTheSubjectsOwn: an id that somebody used for his Thing is no duplicate for another.
func TestMessageIDsAreTheSubjectsOwn(t *testing.T) {
	r := withUsers(t, User{Name: "alice"}, User{Name: "bob", Things: []mapping.Thing{"b"}})
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
}

// TestProgramsOpenNoBatches: a batch that never ends takes nothing from others.
func TestProgramsOpenNoBatches(t *testing.T) {
	r := withUsers(t, User{Name: "alice"}, User{Name: "bob", Things: []mapping.Thing{"b"}})
	alice := stream(t, r.login("alice"))
	for range 100 {
		m := nats.NewMsg("fleets.up.a.events.x")
		m.Header.Set(headerBatchID, nats.NewInbox())
		m.Header.Set(headerBatchNumber, "1")
		if _, err := alice.PublishMsg(testContext(t), m); err != nil { // it is stored like any other
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
}
