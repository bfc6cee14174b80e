package cloud

import (
	"context"
	"sync"
)

const (
	// ownShare is what a Thing may have waiting whatever the others hold: some thirty ordinary messages.
	ownShare = 16 << 10
	// DefaultBudget is the budget of a session that is given none.
	DefaultBudget = 32 << 20
)

// Budget bounds the memory of what brokers have sent and nobody has stored yet, in bytes, over all Things
// that share it. Beyond it the sockets are not read, and the brokers keep what they have.
//
// A Thing gets room as long as it holds less than what is free then, so a broker that floods one Thing has
// half of the budget, one that floods two has a third for each, and there is always something left for
// the others. A Thing that holds nothing, or stays within ownShare, is never refused: together
// Things may hold the budget, and ownShare or one message each.
type Budget struct {
	mu    sync.Mutex
	total int
	used  int
	line  []*claim // who waits, the first in front
}

// NewBudget makes a budget of so many bytes.
func NewBudget(bytes int) *Budget { return &Budget{total: bytes} }

// Used is how many bytes are held now.
func (b *Budget) Used() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// account is one Thing's part of a budget.
type account struct {
	budget *Budget
	used   int
	free   bool // there is no bound any more, because nothing is kept
	over   bool // everything that was held is given back
}

// claim is room that somebody waits for.
type claim struct {
	account *account
	bytes   int
	granted chan struct{} // closed when the bytes are the account's
}

func (b *Budget) account() *account { return &account{budget: b} }

// try acquires n bytes if there is room for them now.
func (a *account) try(n int) bool {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	if !a.fits(n) {
		return false
	}
	a.charge(n)
	return true
}

// acquire waits until there is room for n bytes. It reports false, with nothing acquired, when ctx ended first.
func (a *account) acquire(ctx context.Context, n int) bool {
	b := a.budget
	b.mu.Lock()
	if a.fits(n) {
		a.charge(n)
		b.mu.Unlock()
		return true
	}
	c := &claim{a, n, make(chan struct{})}
	b.line = append(b.line, c)
	b.mu.Unlock()
	select {
	case <-c.granted:
		return true
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.line {
		if other == c {
			b.line = append(b.line[:i], b.line[i+1:]...)
			return false
		}
	}
	return true // granted meanwhile
}

// fits reports whether the account may have n bytes more; the caller holds the lock.
func (a *account) fits(n int) bool {
	now := a.used + n
	return a.free || a.used == 0 || now <= ownShare || now <= a.budget.total-a.budget.used
}

func (a *account) charge(n int) {
	if a.over {
		return
	}
	a.used += n
	a.budget.used += n
}

// release gives n bytes back.
func (a *account) release(n int) {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	a.charge(-n)
	b.grant()
}

// grant serves those who wait; the caller holds the lock.
func (b *Budget) grant() {
	waiting := b.line[:0]
	for _, c := range b.line {
		if !c.account.fits(c.bytes) {
			waiting = append(waiting, c)
			continue
		}
		c.account.charge(c.bytes)
		close(c.granted)
	}
	clear(b.line[len(waiting):])
	b.line = waiting
}

// lift lets everything pass from now on: what comes is not kept.
func (a *account) lift() {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	a.free = true
	a.budget.grant()
}

// close gives back all that is held, for good; nobody will.
func (a *account) close() {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	a.charge(-a.used)
	a.free, a.over = true, true
	a.budget.grant()
}
