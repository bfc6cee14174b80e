package explain

import (
	"fmt"
	"strings"
)

// Text is the entry for people.
func (e Entry) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", e.Name, e.About)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-10s %s\n", name, value)
		}
	}
	direction, way := "up, from local programs to the cloud", "stored, then sent to the broker"
	if e.Direction == "down" {
		direction, way = "down, from the cloud to local programs", "stored for replay, seen at once by subscribers"
	}
	line("direction", direction)
	line("class", e.Class)
	line("thing", e.Thing)
	line(e.IDName, e.ID)
	line("topic", e.Topic)
	if e.Topic != "" {
		line("", "QoS 1, never retained")
	}
	subject := func(subject, what string) {
		if subject != "" {
			line("subject", subject)
			line("", what)
		}
	}
	subject(e.Store, way)
	subject(e.Request, e.answer())
	subject(e.Handler, "subscribe and reply; several programs share it in a queue group")
	line("dead", e.Dead)
	line("once per", e.Identity)
	if e.Expiry > 0 {
		line("expires", fmt.Sprintf("after %gs in the store, then it is a dead letter", e.Expiry))
	}
	if e.EmptyOK {
		line("empty", "a payload of no bytes is allowed")
	}
	line("schema", e.Schema)
	for _, r := range e.Rules {
		line("", r)
	}
	return b.String()
}

// answer says what comes back from a request.
func (e Entry) answer() string {
	switch {
	case e.Name == shadowGet:
		return "answered with the document, or the last known one with the header Fleets-Stale"
	case e.Accepted != "":
		return "sent at once, answered with the payload of " + e.Accepted + ", or an error for " + e.Rejected
	}
	return "checked, then stored; answered with the PubAck, or an error"
}
