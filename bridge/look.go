package bridge

import (
	"slices"
	"time"
)

// What the console and the command line show of a Thing, beside its messages.

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

// AnsweredCommand is a command whose one response goes to the cloud, or has gone.
type AnsweredCommand struct {
	ID     string
	Action string // empty: it was not open any more
	Status string // of the response
	At     time.Time
}

// maxPast is how many answered commands a Thing remembers for people.
const maxPast = 20

// AnsweredCommands are the Thing's last ones since the start of the bridge, the newest first.
func (t *Thing) AnsweredCommands() []AnsweredCommand {
	x := t.commands.Executions
	x.mu.Lock()
	defer x.mu.Unlock()
	out := slices.Clone(x.past)
	slices.Reverse(out)
	return out
}

// action is what an open execution is to do; empty: it is not open.
func (x *Executions) action(id string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.open[id]; e != nil {
		return e.Action
	}
	return ""
}

// remember notes an answer, once.
func (x *Executions) remember(a AnsweredCommand) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if slices.ContainsFunc(x.past, func(o AnsweredCommand) bool { return o.ID == a.ID }) {
		return
	}
	if len(x.past) == maxPast {
		x.past = slices.Delete(x.past, 0, 1)
	}
	x.past = append(x.past, a)
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
