package bridge

import (
	"sync"

	"fleetbridge/mapping"
)

// CommandRoom bounds the memory of commands under way, in bytes, over all Things that share it. A request is kept until its
// execution ends, and its sender says how long that may take. A Thing may have at most as much as is still free, so one
// that is flooded leaves room for the others.
type CommandRoom struct {
	mu    sync.Mutex
	total int
	used  int
	of    map[mapping.Thing]int
}

// executionCost is about what an execution takes beside its payload: its record, and who waits for its handler.
const executionCost = 8 << 10

// NewCommandRoom makes room for so many bytes.
func NewCommandRoom(bytes int) *CommandRoom {
	return &CommandRoom{total: bytes, of: map[mapping.Thing]int{}}
}

func (e *Execution) cost() int { return executionCost + len(e.Payload) }

// take reports whether a Thing may have n bytes more, and if so charges them. A Thing that has nothing may always have one
// execution.
func (r *CommandRoom) take(t mapping.Thing, n int) bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[t] > 0 && r.of[t]+n > r.total-r.used {
		return false
	}
	r.charge(t, n)
	return true
}

// add counts n bytes of a Thing's, or forgets them.
func (r *CommandRoom) add(t mapping.Thing, n int) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.charge(t, n)
}

func (r *CommandRoom) charge(t mapping.Thing, n int) {
	r.used += n
	if r.of[t] += n; r.of[t] == 0 {
		delete(r.of, t)
	}
}
