// Package cloud is the MQTT edge: a Session holds one Thing's connection to the broker, and API
// reaches the Fleets HTTP interface. It is the bridge's only importer of paho.
//
// paho does CONNECT, parsing and SUBSCRIBE. outbound takes the place of paho's session memory: it
// decides, without I/O, what is sent next and what an acknowledgement means. A link is one connection
// and moves the bytes. Every packet after SUBSCRIBE leaves through one goroutine for each connection,
// which packs as many acknowledgements and messages into a write as are ready.
//
// What the two directions promise:
//
//   - Up: a message handed to Send is published until the broker answers with a final PUBACK. A lost
//     connection completes nothing; what is not answered is sent again from its head, before anything
//     newer of the same kind.
//   - Down: a message is acknowledged after Settle, in the order of receipt. What was not settled when
//     the connection was lost, the broker sends again.
package cloud
