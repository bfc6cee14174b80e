package bridge

import "context"

const (
	// maxAnswers executions of a Thing are remembered as answered in a run, and of those that the cloud has not asked for
	// maxUnasked; fewer if their ids are long. It is more than what a broker can have under way; without an end the ids
	// that a program, or a broker, invents would fill the disk and the memory.
	maxAnswers     = 32 << 10
	maxUnasked     = 4 << 10
	maxAnswerBytes = 1 << 20 // each counts answerCost beside its id
	answerCost     = 64
)

// latest are ids in the order in which they came.
type latest struct {
	ids   []string
	bytes int
}

// add returns the ids that have to go for it.
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
		_ = x.bucket.Delete(ctx, x.key("done", id)) // else it expires by itself
	}
}
