package fleetsim_test

import (
	"testing"

	"fleetbridge/fleetsim"
)

// A connection that is half open and full does not keep its successor out, nor stop the cloud.
func TestTakeoverOfHalfOpenConnection(t *testing.T) {
	sim := start(t, fleetsim.Options{})
	link := newLink(t, sim.BrokerURL())
	newDevice(t, link.URL())
	link.BlackHole(true)
	payload := make([]byte, 1<<20)
	for range 32 { // more than the sockets between them hold
		if err := sim.Publish(prefix+"jobs/notify", payload, fleetsim.PublishOptions{AtMostOnce: true}); err != nil {
			t.Fatal(err)
		}
	}
	fresh := newDevice(t, sim.BrokerURL())
	must(sim.SendCommand(fleetsim.Command{Thing: name, Action: "a", ID: "e1"}))(t)
	fresh.receive("e1/request")
}
