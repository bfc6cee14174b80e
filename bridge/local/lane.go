package local

import (
	"hash/maphash"
	"strings"
	"sync"

	"fleetbridge/bridge/journal"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// lane is what a house knows of a Thing and kind. Its messages are the keeper's; the lane knows how far they are settled,
// and who takes them.
type lane struct {
	house *house
	of    queueKey
	key   string // see laneKey

	mu     sync.Mutex
	feed   *feed  // the last who took the lane over; nil: nobody has
	floor  uint64 // up to this number everything is settled, as far as this run knows
	stored uint64 // up to this number there may be messages
	told   uint64 // the newest message that was not handed out when it was stored

	// Only of a journal's.
	weight  int64             // of what is not settled
	pending map[uint64]uint64 // by the hash of a subject, which may be long, the newest number; only of commands

	swept uint64 // only of a stream's: up to this number it has removed what is settled
}

// laneKey is the journal's name of a lane; a token has no dot.
func laneKey(of queueKey) string { return of.token + "." + of.kind.String() }

// parseLaneKey is its inverse.
func parseLaneKey(key string) (of queueKey, ok bool) {
	token, name, _ := strings.Cut(key, ".")
	kind, ok := mapping.ParseKind(name)
	return queueKey{token, kind}, ok
}

const (
	// recordCost is about what the journal needs for a message besides its body.
	recordCost = 64
	// messageCost is what a waiting message counts besides its body: what the journal needs, and more lest a queue of 1 GiB
	// of tiny messages takes more than 100 MiB of memory, 24 bytes for each.
	messageCost = 256
)

func weigh(b journal.Backlog) int64 { return b.Bytes + int64(b.Messages)*messageCost }

// put is told of a message that is on the disk, in the order of the numbers. It is handed out at once if there is room
// and nothing older is to be read first. It does not block.
func (l *lane) put(number uint64, e *entry, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored = max(l.stored, number)
	l.weight += bytes
	l.note(number, e.subject)
	f := l.feed
	switch {
	case f == nil || !f.running || f.behind:
		l.told = number
	case number <= f.last: // it was read before it was told
	case f.full():
		f.behind, l.told = true, number
	default:
		f.enter(number, e)
	}
}

// tell is put for a message that is to be read.
func (l *lane) tell(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = max(l.told, number)
	l.readOn(number)
}

// readOn has the lane read on, as there may be messages up to a number. The lock is held.
func (l *lane) readOn(newest uint64) {
	l.stored = max(l.stored, newest)
	if f := l.feed; f != nil && f.running && f.place < l.stored {
		f.behind = true
		flow.Signal(f.wake)
	}
}

// note remembers what Pending is asked about. The lock is held.
func (l *lane) note(number uint64, subject string) {
	if l.pending != nil {
		l.pending[l.hash(subject)] = number
	}
}

// hash is of a subject. Nobody who chooses subjects knows the seed.
func (l *lane) hash(subject string) uint64 { return maphash.String(l.house.seed, subject) }

// settle says that everything up to a number is settled. The lock is held.
func (l *lane) settle(floor uint64) {
	l.floor = floor
	l.house.keeper.settle(l, floor)
}

// thing is the name of the lane's Thing.
func (l *lane) thing() string {
	name, err := mapping.Untoken(l.of.token)
	if err != nil {
		return l.of.token
	}
	return name
}

// The rest is for streams, which may lose their end in a crash of a server that does not sync, and then give the numbers
// out again.

// lose notes that what was handed out from a number on is not in the stream any more. The lock is held.
func (l *lane) lose(number uint64) {
	l.floor, l.swept = min(l.floor, number-1), min(l.swept, number-1)
	f := l.feed
	if f == nil {
		return
	}
	for i := range f.unsettled {
		if h := &f.unsettled[i]; h.number >= number {
			h.number = 0
		}
	}
	f.place, f.last = number-1, number-1
}

// readAgain has the lane read all that the stream holds. What was handed out is recognized; until then nothing is removed.
func (l *lane) readAgain(newest uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored, l.told = newest, 0
	if l.feed != nil {
		l.feed.place = 0
	} else {
		l.floor, l.swept = 0, 0
	}
	l.readOn(newest)
}

// empty says that the stream holds nothing of the lane up to a number.
func (l *lane) empty(newest uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose(1)
	l.floor, l.swept, l.stored, l.told = newest, newest, newest, 0
	if f := l.feed; f != nil {
		f.place, f.last, f.behind = newest, newest, false
	}
}

// sweepable is up to which number the stream may remove what is settled; ok is false while that is not sure.
func (l *lane) sweepable() (floor uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.floor, l.feed == nil || l.feed.place >= l.feed.last
}
