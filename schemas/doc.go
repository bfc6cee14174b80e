// Package schemas holds the payload rules of the Fleets protocol: one JSON Schema (draft 2020-12)
// for each channel, embedded, and what a Thing may add to them.
//
// A payload passes three gates, in this order. [Guard] reads the raw bytes once and refuses what
// readers would disagree about. [Catalog.Check] compares it with the channel's schema. On the
// way up the schema is as strict as the protocol page. On the way down it asks only for the fields
// that a program needs. [CheckAddress] compares it with the address it is sent to,
// which JSON Schema can't. A Thing's own schemas, [ThingSchemas], then look at the parts that the
// protocol leaves to the Thing.
//
// A good payload is read once. The scanner that guards it also cuts it into a tape of tokens, in
// which each container knows where it ends. At the start each schema is compiled into a tree of
// nodes, which are compared with the tape. So nothing is decoded, nothing allocated, and values that no keyword
// concerns are skipped. Nodes only say yes or no. When they refuse a payload, the jsonschema library checks
// it, too, and says why. When a schema has a keyword that nodes don't support, only the library checks. Nodes are made
// from what the library has compiled, so the library deals with references, dialects and identifiers. Tests compare the two.
//
// A check has a budget of steps and ends with its context, whatever a Thing's schema asks for: see
// budget.go, and meter.go for how the library is stopped.
//
// Nothing here reads the network, and everything may be used from several goroutines.
package schemas
