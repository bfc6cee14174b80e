package schemas

import "context"

// A check has a budget of steps, because a schema of a few lines can ask for years of work. A payload whose check takes more
// is refused, with one line of reason. A check also ends with its context, which it looks at every stepsAtOnce steps.
const (
	// Nodes count a step for each schema that they compare with a value, and more steps for costly keywords. A step is about 10 ns: a payload of 128 KiB gets some 60 ms, a hundred times what it needs.
	baseSteps    = 4 << 20
	stepsPerByte = 16
	// stepsAtOnce is how many steps go by between two looks at the context.
	stepsAtOnce = 1 << 14

	// The library's steps are some 100 ns each and may leave up to 100 bytes of errors behind, so that it gets
	// fewer, whatever the payload's size; see meter.
	librarySteps = 1 << 20
	// explainSteps bounds the work of saying what is wrong; a step is 16 bytes of text.
	explainSteps = 1 << 18
)

// work is what is left of a budget.
type work struct {
	ctx  context.Context // nil: nobody stops it
	left int             // steps until the next look at the context; below 0: the budget is used up
	more int             // steps after that
}

// newWork has so many steps. A small check never looks at the context.
func newWork(steps int) work {
	left := min(steps, stepsAtOnce)
	return work{left: left, more: steps - left}
}

// spend takes steps. Once left is below 0 it stays there.
func (w *work) spend(steps int) {
	if w.left -= steps; w.left < 0 {
		w.refill()
	}
}

func (w *work) refill() {
	if w.more+w.left < 0 || w.ctx != nil && w.ctx.Err() != nil {
		w.left, w.more = -1, 0
		return
	}
	w.more += w.left
	w.left = min(w.more, stepsAtOnce)
	w.more -= w.left
}

// over reports whether the budget is used up, or the context has ended.
func (w *work) over() bool { return w.left < 0 }

// ended says why a check was over: the context's error, or a refusal.
func (w *work) ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return &Error{Code: CodeSchema, Overrun: true, Details: []Detail{{Message: "takes more steps to check than are allowed: " +
		"alternatives, references, patterns or values of its schema multiply; send less at once, or make the schema simpler"}}}
}
