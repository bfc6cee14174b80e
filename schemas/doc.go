// Package schemas holds the payload rules of the Fleets protocol: one JSON Schema (draft 2020-12)
// for each channel, embedded, and what a Thing may add to them.
//
// A payload passes three gates, in this order. [Guard] reads the raw bytes once and refuses what
// readers would disagree about. [Catalog.Check] holds it against the channel's schema: strict on
// what goes up, where the protocol page is the law, open on what comes down, where only the fields
// that a program needs are asked for. [CheckAddress] compares it with the address it is sent to,
// which JSON Schema can't. A Thing's own schemas, [ThingSchemas], then look at the parts that the
// protocol leaves to the Thing.
//
// Nothing here reads the network, and everything may be used from several goroutines.
package schemas
