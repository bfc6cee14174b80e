// Package embedded is the NATS server that runs within the bridge: it starts it on the store directory, lets programs in at the
// door, and keeps it alive. Start and Listen are the two steps; between them the bridge makes its streams.
//
// It bounds what programs may take of the server (subscriptions, unread bytes), says when something is published that nobody
// takes, puts the server's log into the bridge's, and starts JetStream again when the disk has refused a write. How it does
// that leans on the server's own texts and fields: serverlog.go, recovery.go and listen.go have them. What the streams hold is
// none of its business; who may do what is package access's, and what comes in on a connection package door's.
package embedded
