// Package wire is how things are spelled on NATS: the names of streams, buckets and subjects, headers, sizes, what of a
// program's message may cross to where the bridge's rights are, answers that fit, JetStream's error codes, and how the bridge
// dials. Every other part of the NATS edge uses it.
//
// It keeps no state but that of connections, and has no locks of its own but the one that keeps Answers from saying the same
// again and again.
package wire
