// Package local is the NATS edge: it puts together what the packages in it have. Subjects exist on this side only.
//
// In packages of their own are wire (how things are spelled on NATS), door (where programs connect), access (users and what they
// may do), clerk (their JetStream requests), bus (what they say to each other), storedir (the embedded server's directory)
// and salvage (what of its files is damaged). None of them imports this one. Here are:
//
//   - Server, the embedded NATS server, with the care of its disk (recovery);
//   - Store: streams and buckets, and on them lanes (streamLanes) with an external server, DownSink, dead letters and records;
//   - Spool: lanes, views and records on the journal, with the embedded server;
//   - Service, which serves requests, and Handlers, which calls the programs that serve commands;
//   - Ownership and fences, with several bridges;
//   - Finder, DeadLetters and others that read, for the command line and the console.
//
// Everything works the same on the embedded server and on an external one; a lost connection costs no message and no order.
package local
