package local

import (
	"strings"
	"sync"

	"fleetbridge/bridge/journal"
	"fleetbridge/mapping"
)

// lane is what a spool keeps of a Thing and kind. The journal has its messages; the lane knows how far they are settled,
// and who takes them.
type lane struct {
	spool *Spool
	of    queueKey
	key   string // the journal's

	mu      sync.Mutex
	feed    *feed             // the last who took the lane over; nil: nobody has
	floor   uint64            // up to this number everything is settled, as far as this run knows
	stored  uint64            // the newest number
	weight  int64             // of what is not settled
	pending map[string]uint64 // by subject, the newest number; only of commands
}

// laneKey is the journal's name of a lane; a token has no dot.
func laneKey(of queueKey) string { return of.token + "." + of.kind.String() }

// parseLaneKey is its inverse.
func parseLaneKey(key string) (of queueKey, ok bool) {
	token, name, _ := strings.Cut(key, ".")
	kind, ok := mapping.ParseKind(name)
	return queueKey{token, kind}, ok
}

// recordCost is what a message counts besides its body. The journal needs 64 bytes, and 24 of memory; it counts more lest
// a queue of 1 GiB of tiny messages takes more memory than 100 MiB.
const recordCost = 256

func weigh(b journal.Backlog) int64 { return b.Bytes + int64(b.Messages)*recordCost }

// put is told of a message that is on the disk, in the order of the numbers. It is handed out at once if there is room
// and nothing older is to be read first. It does not block.
func (l *lane) put(number uint64, e *entry, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored = number
	l.weight += bytes
	l.note(number, e.subject)
	f := l.feed
	switch {
	case f == nil || !f.running || f.behind:
	case number <= f.last: // it was read before the journal said so
	case f.full():
		f.behind = true
	default:
		f.enter(number, e)
	}
}

// note remembers what Pending is asked about. The lock is held.
func (l *lane) note(number uint64, subject string) {
	if l.of.kind != mapping.Commands {
		return
	}
	if l.pending == nil {
		l.pending = map[string]uint64{}
	}
	l.pending[subject] = number
}

// settle says that everything up to a number is settled. The lock is held.
func (l *lane) settle(floor uint64) {
	l.floor = floor
	now := weigh(l.spool.journal.Settle(l.key, floor))
	l.spool.used[l.of.kind.Class()].Add(now - l.weight)
	l.weight = now
	signal(l.spool.settled)
}

// isPending reports whether a message with a subject is not settled.
func (l *lane) isPending(subject string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of.kind == mapping.Commands {
		return l.pending[subject] > 0
	}
	for _, e := range l.spool.entries(l.key, l.floor, readBytes) { // nobody asks
		if e.subject == subject {
			return true
		}
	}
	return false
}

// load reads what Pending is asked about, at the start.
func (l *lane) load() {
	if l.of.kind != mapping.Commands {
		return
	}
	for number, e := range l.spool.entries(l.key, 0, readBytes) {
		l.note(number, e.subject)
	}
}

// thing is the name of the lane's Thing.
func (l *lane) thing() string {
	name, err := mapping.Untoken(l.of.token)
	if err != nil {
		return l.of.token
	}
	return name
}
