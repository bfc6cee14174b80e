// Package door is where programs connect: the listener of the embedded server. It knows whose connection each one is, what
// comes on it, and what it costs. The server reads from the door what programs send. Nothing here knows of streams, Things or
// users: the server (bridge/local) tells the door whose connection one is, and the door tells it on which subjects it publishes.
//
// What bounds a program:
//
//   - Limits: how many connections strangers, users and operators have. A user never has more than are
//     still free.
//   - Brake: how many bytes are under way, and how many questions that cost the server more than their bytes. What is more
//     waits in the program's own socket.
//   - unfinished: how many bytes of messages are begun and not ended, by user.
//   - TLS ends here, so that all this can read what comes.
//
// Locks: Door, unfinished and Brake have one each, and none is taken while another is held. NATS's server calls Accept, Close and Write with its own locks held; so nothing here calls the server with a lock held.
package door
