// Package fleetsim plays the EMQX Fleets cloud, for tests, demonstrations and development without
// an account. Nothing in it depends on the bridge: any device program can be run against it.
//
//   - Sim is the cloud: Things, shadows, commands, jobs, events, over MQTT 5 and HTTP, with its own
//     broker or with yours. What the published protocol leaves open follows AWS IoT, or is an option.
//   - Broker is the embedded MQTT 5 broker, with switches for refusing things. Like makes it behave like a real one.
//   - Link is a TCP proxy that can be cut, slowed down, black-holed or torn at a named MQTT packet.
//   - Mosquitto runs a real mosquitto, to test durability, which an embedded broker can't show.
//   - Log is a slog.Logger that fails the test on a warning.
//
// A test needs these lines (ctx is the test's, with a deadline):
//
//	sim := fleetsim.Start(t, fleetsim.Options{Things: []string{"pump-07"}, Log: fleetsim.Log(t)})
//	// … run the device against sim.BrokerURL() and sim.HTTPURL() …
//	id, err := sim.SendCommand(fleetsim.Command{Thing: "pump-07", Action: "purge", TTL: 30 * time.Second})
//	done, err := sim.WaitCommand(ctx, id)
//
// All Wait methods are woken by the change they wait for; none polls. Everything that the simulator
// is told is kept in memory: Things, commands and jobs for its whole life, what clients published
// and reported as events up to Options.Keep.
package fleetsim
