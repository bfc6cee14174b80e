package fleetstest_test

import (
	"testing"

	"fleetbridge/bridge/fleetstest"
)

// A connection that is half open and full does not keep its successor out, nor stop the cloud.
func TestTakeoverOfHalfOpenConnection(t *testing.T) {
	sim := start(t, fleetstest.Options{})
	link := newLink(t, sim.BrokerURL())
	newDevice(t, link.URL())
	link.BlackHole(true)
	payload := make([]byte, 1<<20)
	for range 32 { // more than the sockets between them hold
		if err := sim.Publish(prefix+"jobs/notify", payload, fleetstest.PublishOptions{AtMostOnce: true}); err != nil {
			t.Fatal(err)
		}
	}
	fresh := newDevice(t, sim.BrokerURL())
	must(sim.SendCommand(fleetstest.Command{Thing: name, Action: "a", ID: "e1"}))(t)
	fresh.receive("e1/request")
}
