package bridge

import (
	"slices"
	"time"
)

// What people see of a Thing that is no message.

// OpenCommand is a command that has no answer yet.
type OpenCommand struct {
	ID, Action         string
	Received, Deadline time.Time
	Payload            []byte // of the request
}

// OpenCommands are the Thing's, the one whose time ends first in front.
func (t *Thing) OpenCommands() []OpenCommand {
	x := t.commands.Executions
	x.mu.Lock()
	out := make([]OpenCommand, 0, len(x.open))
	for _, e := range x.open {
		out = append(out, OpenCommand{e.ID, e.Action, e.Received, e.Deadline, e.Payload})
	}
	x.mu.Unlock()
	slices.SortFunc(out, func(a, b OpenCommand) int { return a.Deadline.Compare(b.Deadline) })
	return out
}

// ShadowDocument is the last known document of the Thing's shadow, printed; known is false when there is none.
func (t *Thing) ShadowDocument() (document []byte, known bool) {
	t.shadow.mu.Lock()
	defer t.shadow.mu.Unlock()
	if !t.shadow.isKnown() {
		return nil, false
	}
	return t.shadow.document().print(), true
}
