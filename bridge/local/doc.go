// Package local is the NATS edge. It embeds the server, keeps the streams and buckets, hands out what
// programs publish (Queue), stores what the cloud sent (DownSink) and what can go nowhere (Bury), serves
// requests and calls the programs that serve commands. Subjects exist on this side only.
//
// Everything works the same on the embedded server and on an external one; a lost connection costs no
// message and no order.
package local
