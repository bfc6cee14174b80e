package bridge

import (
	"testing"
	"testing/synctest"

	"fleetbridge/mapping"
)

// A command that claims to be of a year with five digits is run like one without a timestamp: its deadline
// must fit into the record that is stored before the broker may forget the request.
func TestCommandOfTheFarFuture(t *testing.T) {
	for _, payload := range []string{
		`{"action":"purge","timestamp":900000000000000,"ttl":5}`, `{"action":"purge","timestamp":"9999-12-31T23:59:59Z","ttl":1e9}`,
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newDeciders(t)
			decision, err := d.down.Decide(t.Context(), arriving(mapping.CommandRequest, "e1", payload))
			if err != nil || decision.Finish == nil {
				t.Fatalf("%s: %s", payload, fate(decision, err))
			}
			settled := false
			decision.Finish(func() { settled = true })
			synctest.Wait()
			if !settled {
				t.Errorf("%s: the request is never settled", payload)
			}
			d.station.Commands.Finish()
		})
	}
}
