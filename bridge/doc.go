// Package bridge is the core of fleetbridge in its own terms. A Pump moves messages from a Source to
// a Sink; Upward and Downward decide what becomes of each; Shadow, Exchange, Leases, Executions and
// Commands are what they decide with. The edges, MQTT and NATS, implement the interfaces in
// ports.go, lanes.go, views.go and state.go.
//
// The package imports neither edge's library. What must survive a restart is behind the
// interfaces in the last three. A message stays with its Source until it is settled.
package bridge
