// Package wire is how things are spelled on NATS: the names of streams, buckets and subjects, headers, sizes, which headers of
// a program's message the bridge takes over, answers that fit, JetStream's error codes, and how the bridge dials. Every other
// part of the NATS edge uses it.
//
// It keeps no state but that of connections. It has one lock: that of Answers, which limits repeated log lines.
package wire
