// Package conform checks what a device program of EMQX Fleets must do, one point after the other. It plays the cloud
// with the simulator of fleetsim, starts the program, kills it, breaks its link, and looks at what arrives. The program speaks MQTT, or NATS with a bridge, which is the built fleetbridge in a process of its own.
package conform
