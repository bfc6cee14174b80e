// Package mapping is the vocabulary of the Fleets protocol: Thing, Channel and
// Address, the one table of routes, and the two spellings that an Address has:
// an MQTT topic and a NATS subject.
//
// Everything here is pure. Topic strings are parsed and printed only at the MQTT
// edge, subject strings only at the NATS edge, and both do it with this package;
// the code between them speaks of addresses.
package mapping
