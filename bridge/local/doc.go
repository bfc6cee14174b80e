// Package local is what the NATS edge stores: streams, buckets, and with the embedded server the journal before them. Subjects exist
// on this side only.
//
// In packages below it are wire (how things are spelled on NATS), embedded (the embedded server), storedir (its directory), salvage
// (saves what it can of damaged files), door (where programs connect), access (users and what they may do), clerk (their
// JetStream requests), bus (what they say to each other), services (requests, and calls of programs that serve commands),
// streams (makes and reads streams and buckets), ownership (shards of a cluster, and fences), letters (dead letters, read) and
// registry (Things added at run time). None of them imports this one. Here are:
//
//   - Store: streams and buckets, and on them lanes (streamLanes) with an external server, downSink, dead letters and records;
//   - Spool: lanes, views and records on the journal, with the embedded server;
//   - Share: what the owner of a shard writes, with several bridges;
//   - Finder and Waiting, which read, for the command line and the console.
//
// The embedded server and an external one keep the same promises; docs/guarantees.md names the differences. When a connection is
// lost, no message is lost or out of order.
package local
