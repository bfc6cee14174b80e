// Package cluster decides which of several bridges on one NATS cluster owns which shard of the Things. It is pure: it
// reads no clock, does no I/O and starts nothing. Bridge.Step takes what happened and returns what is to be done.
//
// All bridges write into one log, the ownership log: one record for each bridge, which that bridge
// rewrites every beat, and one record for each shard, which names the owner. A write names the sequence that its record had; if somebody else was faster, it is
// refused. The sequence of the record that makes a bridge owner is the epoch, so epochs grow.
//
// An epoch is a fencing token. In each stream that an owner writes, one message for each shard, the marker, names the epoch.
// Each write of the owner names the marker's sequence, and the stream refuses it when another marker is there. So no
// promise rests on a clock, or on what a bridge believes of itself.
//
// Here are the promises, each with the code that keeps it. The model in the tests checks all of them: five bridges, with
// messages that are lost and late, links that are cut, bridges that are paused and killed. `make model` runs 10,000 such
// histories. Each rule is broken once, to see that the model finds it.
//
//	I1  one session   A bridge that a newer owner has taken a session from never connects again. Bridge.Verified: CONNECT
//	                  needs a beat that was sent after the last disconnect, and seen in the log together with the ownership.
//	I2  order         First arrivals of a lane are in order. An owner connects last: claim, fence, load, connect. Then it
//	                  sends all that is not settled, from the first on.
//	I3  nothing lost  What is accepted arrives, and the merged state is never older than before. Refusal, Raise: a write of an old epoch is
//	                  refused. Proves: what is loaded is not older than the marker.
//	I4  one response  The first to create the record of an execution's response wins.
//	I5  one call      A handler is called once. The call is noted, in a fenced write, before it is made. AfterTakeover: the
//	                  new owner waits for the reply to a noted call, and does not call again.
//	I6  progress      A shard whose owner is dead is claimed. dead counts beats that are in the log, so without a quorum
//	                  nobody is dead. plan says who claims; a bridge that does not claim in time is passed over.
package cluster
