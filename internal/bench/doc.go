// Package bench measures a bridge: it sends messages on one side, takes them on the other, and tells how
// many went through, how long each took, and what the bridge spent on them. The bridge runs in a process
// of its own, so its processor time is not mixed up with the load's.
//
// Every message carries a tag: which Thing, its number, and when it was due. So the receiver knows
// what is missing, came twice, or out of order, and the latency counts from when a message should have
// been sent, also when the sender was late because the bridge held it up.
package bench
