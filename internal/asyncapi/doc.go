// Package asyncapi describes the bridge's subjects as an AsyncAPI 3 document. It knows nothing of the
// protocol itself: channels come from the route table and payloads from the schemas.
package asyncapi
