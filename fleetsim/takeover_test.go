package fleetsim_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

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

// A message that is published at the moment in which a connection takes a session over is in the session.
func TestTakeoverLosesNothing(t *testing.T) {
	sim := start(t, fleetsim.Options{})
	var mu sync.Mutex
	seen := map[int64]bool{}
	room := make(chan struct{}, 200) // how many may be on their way
	var hearing sync.WaitGroup
	ended := make(chan struct{})
	hear := func(d *device) {
		hearing.Go(func() {
			for {
				select {
				case p := <-d.in:
					n := gjson.GetBytes(p.Payload, "n").Int()
					mu.Lock()
					if !seen[n] {
						seen[n] = true
						<-room
					}
					mu.Unlock()
				case <-ended:
					return
				}
			}
		})
	}
	hear(newDevice(t, sim.BrokerURL()))
	stop, sent := make(chan struct{}), make(chan int64)
	go func() {
		for n := int64(0); ; n++ {
			select {
			case room <- struct{}{}:
			case <-stop:
				sent <- n
				return
			}
			if err := sim.Publish(prefix+"jobs/notify", fmt.Appendf(nil, `{"n":%d}`, n), fleetsim.PublishOptions{}); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 20 {
		d, ack, err := connect(t, sim.BrokerURL(), login{})
		if err != nil || !ack.SessionPresent {
			t.Fatalf("%+v, %v", ack, err)
		}
		hear(d)
	}
	close(stop)
	all := <-sent
	ctx := deadline(t)
	for lost := []int64{}; ; lost = lost[:0] {
		mu.Lock()
		for n := range all {
			if !seen[n] {
				lost = append(lost, n)
			}
		}
		mu.Unlock()
		if len(lost) == 0 {
			break
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("of %d messages these are lost: %v", all, lost)
		}
	}
	close(ended)
	hearing.Wait()
}
