// Package local is the NATS edge: the embedded server, streams, buckets and services. Subjects exist on this side only.
//
// In packages below it are wire (how things are spelled on NATS), door (where programs connect), access (users and what they
// may do), clerk (their JetStream requests), bus (what they say to each other), storedir (the embedded server's directory)
// and salvage (saves what it can of damaged files). None of them imports this one. Here are:
//
//   - Server, the embedded NATS server, and its recovery after a fault of the disk;
//   - Store: streams and buckets, and on them lanes (streamLanes) with an external server, DownSink, dead letters and records;
//   - Spool: lanes, views and records on the journal, with the embedded server;
//   - Service, which serves requests, and Handlers, which calls the programs that serve commands;
//   - Ownership and fences, with several bridges;
//   - Finder, DeadLetters and others that read, for the command line and the console.
//
// The embedded server and an external one keep the same promises; docs/guarantees.md names the differences. When a connection is
// lost, no message is lost or out of order.
package local
