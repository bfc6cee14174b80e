// Package conform takes a device program through a list of what a program must do that is a Thing in EMQX Fleets: it
// plays the cloud with the simulator of fleetsim, starts the program, kills it, breaks its link, and looks at what
// arrives. The program speaks MQTT, or NATS with a bridge, which is the built fleetbridge in a process of its own.
package conform
