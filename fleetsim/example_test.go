package fleetsim_test

import (
	"context"
	"fmt"
	"time"

	"fleetbridge/fleetsim"
)

// A cloud with one Thing, and what it wants of it while the device is away.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	sim, err := fleetsim.New(fleetsim.Options{Things: []string{"pump-07"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	go sim.Run(ctx)
	defer sim.Close()

	// A device would connect to sim.BrokerURL() with the client id pump-07, and ask sim.HTTPURL()
	// for its shadow.
	_, _ = sim.PatchDesired("pump-07", []byte(`{"rpm":1500,"valve":{"open":true}}`))
	shadow, _ := sim.Shadow("pump-07")
	fmt.Printf("version %d, delta %s\n", shadow.Version, shadow.Delta)

	// Nobody is subscribed, so a command fails at once.
	id, _ := sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "purge", TTL: 30 * time.Second})
	done, _ := sim.WaitCommand(ctx, id)
	fmt.Println(done.Action, done.Status)
	// Output:
	// version 1, delta {"rpm":1500,"valve":{"open":true}}
	// purge FAILED
}
