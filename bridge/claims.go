package bridge

import "context"

const (
	// Of the executions of a Thing that were answered in this run, the bridge remembers maxAnswers, and maxUnasked of those
	// that the cloud has not asked for; fewer if their ids are long. No broker can have more under way. Without a bound,
	// ids that a program or a broker invents would fill the disk and the memory.
	maxAnswers     = 32 << 10
	maxUnasked     = 4 << 10
	maxAnswerBytes = 1 << 20 // each counts answerCost beside its id
	answerCost     = 64
)

// latest has ids in the order in which they came.
type latest struct {
	ids   []string
	bytes int
}

// add appends an id and removes the oldest ones beyond the bounds, which it returns.
func (l *latest) add(id string, most int) (oldest []string) {
	l.ids = append(l.ids, id)
	l.bytes += len(id) + answerCost
	n := 0
	for len(l.ids)-n > most || l.bytes > maxAnswerBytes {
		l.bytes -= len(l.ids[n]) + answerCost
		n++
	}
	oldest, l.ids = l.ids[:n:n], l.ids[n:]
	return oldest
}

// bound forgets the oldest answers when there are too many.
func (x *Executions) bound(ctx context.Context, id string, asked bool) {
	x.mu.Lock()
	var oldest []string
	if asked {
		oldest = x.answers.add(id, maxAnswers)
	} else {
		oldest = x.unasked.add(id, maxUnasked)
	}
	x.mu.Unlock()
	for _, id := range oldest {
		_ = x.state.Delete(ctx, x.key("done", id)) // else it expires by itself
	}
}
