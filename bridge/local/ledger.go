package local

import (
	"sync"

	"github.com/nats-io/nats-server/v2/server/avl"
)

// ledger knows which messages of a stream its queues have been told, so that no purge passes over a record that nobody
// could read. The server does not count such a record out when it purges past it: at its next start it then refuses
// its index, and cuts the file off there with all that lies behind. So when there is one, nothing is purged from the
// last message before it on, until the stream can be emptied at once.
type ledger struct {
	mu      sync.Mutex
	seqs    avl.SequenceSet // beyond cleared
	holes   avl.SequenceSet // beyond cleared: what the stream did not have when the store was opened
	cleared uint64          // up to here everything that the stream had was told
	last    uint64          // the last message up to there
	foreign uint64          // up to here nobody knows what the stream had
	broken  bool            // something was not told
}

// begin tells what the stream has at the start.
func (t *ledger) begin(first, last uint64, holes []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleared = min(max(first, 1)-1, last)
	for _, seq := range holes {
		t.holes.Insert(seq)
	}
}

// tell notes a message that a queue was told.
func (t *ledger) tell(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seq > t.cleared {
		t.seqs.Insert(seq)
	}
}

// reach is how far of a floor a purge may go: everything up to the floor was told, if it could be read.
func (t *ledger) reach(floor uint64) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for seq := t.cleared + 1; seq <= floor && !t.broken; seq++ {
		switch {
		case t.seqs.Delete(seq):
			t.last = seq
		case t.holes.Delete(seq), seq <= t.foreign:
		default:
			t.broken = true
			continue
		}
		t.cleared = seq
	}
	if t.broken { // the last one stays: the server passes over all that is stored behind a damaged record which is the first
		return max(t.last, 1) - 1
	}
	return floor
}

// missed is told that something was not told.
func (t *ledger) missed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.broken = true
}

// damaged tells whether something was not told.
func (t *ledger) damaged() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.broken
}

// empty is told that the stream has nothing up to a message.
func (t *ledger) empty(last uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seqs.Empty()
	t.holes.Empty()
	t.cleared, t.last, t.foreign, t.broken = last, 0, 0, false
}

// restart is told that the sequences up to one stand for other messages now, told or not.
func (t *ledger) restart(last uint64) {
	t.empty(0)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.foreign = last
}
