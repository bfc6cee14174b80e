// Package door is where programs connect: the listener of the embedded server, which knows whose each connection is, what
// comes on it, and what it costs. The server reads from the door what programs send. Nothing here knows of streams, of Things,
// or of who the users are: the server (bridge/local) says whose a connection is, and hears on which subjects it publishes.
//
// What bounds a program:
//
//   - Limits: how many connections strangers, users and operators have. Nobody has more than is free beside it.
//   - Brake: how many bytes, and questions that cost the server more than their bytes, are under way. What is more waits in the
//     program's own socket.
//   - unfinished: how much of messages that are begun and not ended, by user.
//   - TLS ends here, so that all this can read what comes.
//
// Locks: of Door, of unfinished and of Brake each have one of their own, and none is taken while another is held. NATS's server
// calls Accept, Close and Write with its own locks held; so nothing here calls the server with a lock held.
package door
