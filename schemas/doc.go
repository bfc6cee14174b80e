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
// A good payload is read once. The scanner that guards it also cuts it into a tape of tokens, in
// which each container knows where it ends, and the schema, compiled at the start into a tree of
// nodes, is held against the tape: nothing is decoded, nothing allocated, and what no keyword speaks
// of is stepped over. Nodes only say yes or no. Whatever they refuse, the jsonschema library looks at,
// too, and says why; and it checks alone what has a keyword that nodes lack. The library is the law:
// nodes are made of what it compiled, so references, dialects and identifiers are its business, and
// tests hold the two against each other.
//
// A check has a budget of steps and ends with its context, whatever a Thing's schema asks for: see
// budget.go, and meter.go for how the library is held to it.
//
// Nothing here reads the network, and everything may be used from several goroutines.
package schemas
