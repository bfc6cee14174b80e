// Package wire is the MQTT 5 of the load: a client, and a broker that acknowledges everything and knows
// one subscriber for each connection. Both spend as little as they can, so that what is measured between them is
// not their own cost. They take for granted that the other side keeps to the protocol, and know QoS 0
// and 1 only.
package wire
