// Package asyncapi prints what programs can use of a bridge as an AsyncAPI 3 document. It has no knowledge
// of its own of the protocol: channels come from the route table and payloads from the schemas.
package asyncapi
