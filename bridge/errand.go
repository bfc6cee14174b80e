package bridge

import (
	"context"
	"sync"
)

// errand is work that is done in a goroutine of its own when somebody wants it, one at a time. Without work there is no
// goroutine.
type errand struct {
	do func(ctx context.Context)

	mu     sync.Mutex
	ctx    context.Context // nil before begin, and after end
	busy   bool
	wanted bool // once more, or as soon as it has begun
	work   sync.WaitGroup
}

// want has the work done, once more if it is under way.
func (e *errand) want() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wanted = true
	e.start()
}

// begin allows the work until end, with this context.
func (e *errand) begin(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ctx = ctx
	e.start()
}

// end waits for the work; its context has ended.
func (e *errand) end() {
	e.mu.Lock()
	e.ctx = nil
	e.mu.Unlock()
	e.work.Wait()
}

// start starts the work if it is wanted, allowed and not under way. The lock is held.
func (e *errand) start() {
	if e.ctx == nil || e.busy || !e.wanted {
		return
	}
	e.busy = true
	ctx := e.ctx
	e.work.Go(func() {
		for e.again() {
			e.do(ctx)
		}
	})
}

func (e *errand) again() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.busy = e.wanted && e.ctx != nil
	e.wanted = false
	return e.busy
}
