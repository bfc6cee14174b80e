package bridge

import "context"

const (
	// maxAnswers executions of a Thing are remembered as answered in a run, and of those that the cloud has not asked for
	// maxUnasked. It is more than what a broker can have under way; without an end the ids that a program, or a broker,
	// invents would fill the disk.
	maxAnswers = 32 << 10
	maxUnasked = 4 << 10
)

// latest are ids in the order in which they came.
type latest []string

// add returns the id that has to go for it; empty: none.
func (l *latest) add(id string, most int) (oldest string) {
	if *l = append(*l, id); len(*l) > most {
		oldest, *l = (*l)[0], (*l)[1:]
	}
	return oldest
}

// bound forgets the oldest answer when there are too many.
func (x *Executions) bound(ctx context.Context, id string, asked bool) {
	x.mu.Lock()
	oldest := ""
	if asked {
		oldest = x.answers.add(id, maxAnswers)
	} else {
		oldest = x.unasked.add(id, maxUnasked)
	}
	x.mu.Unlock()
	if oldest != "" {
		_ = x.bucket.Delete(ctx, x.key("done", oldest)) // else it expires by itself
	}
}
