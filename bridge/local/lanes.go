package local

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/journal"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// house has all lanes, and knows who takes them.
type house struct {
	keeper   keeper
	subjects mapping.Subjects
	log      *slog.Logger
	window   int  // how many deliveries of a lane may be unsettled
	pending  bool // lanes of commands know what they hold, by subject
	seed     maphash.Seed

	lent atomic.Int64 // bytes that are handed out

	mu    sync.Mutex
	lanes map[queueKey]*lane

	taking sync.Mutex
	takers map[mapping.Thing]*TakenLanes
	over   error // why nobody takes any more
}

// keeper is where the messages of lanes are stored: a journal, or streams.
type keeper interface {
	// read returns messages of a lane behind a number, in order. None: it holds none, up to the newest that the lane knew
	// of when read was called. times is how often that was in a row for this lane.
	read(ctx context.Context, l *lane, after uint64, times int) ([]laneMessage, error)
	// settle is told that everything of a lane up to a number is settled. It does not block. The lane's lock is held.
	settle(l *lane, floor uint64)
	// flush returns when nothing that was settled in these lanes comes again.
	flush(ctx context.Context, lanes []*lane) error
	// sequence is a message's number as programs see it.
	sequence(number uint64, e *entry) uint64
	// missed says which messages can't be read any more.
	missed(l *lane, m misses)
}

// laneMessage is a stored message.
type laneMessage struct {
	number uint64
	entry  *entry
	err    error // it can't be read
}

func newHouse(k keeper, subjects mapping.Subjects, window int, log *slog.Logger) *house {
	return &house{keeper: k, subjects: subjects, log: log, window: window, seed: maphash.MakeSeed(), lanes: map[queueKey]*lane{}, takers: map[mapping.Thing]*TakenLanes{}}
}

// lane is the one of a Thing and kind.
func (h *house) lane(of queueKey) *lane {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lanes[of]
	if l == nil {
		l = &lane{house: h, of: of, key: laneKey(of)}
		if h.pending && of.kind == mapping.Commands {
			l.pending = map[uint64]uint64{}
		}
		h.lanes[of] = l
	}
	return l
}

// known is the lane if there is one.
func (h *house) known(of queueKey) *lane {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lanes[of]
}

// takeOver takes a Thing's lanes away from whoever has them.
func (h *house) takeOver(t mapping.Thing) *TakenLanes {
	q := &TakenLanes{house: h, thing: t, wake: make(chan struct{}, 1), replaced: make(chan struct{})}
	h.taking.Lock()
	defer h.taking.Unlock()
	if before := h.takers[t]; before != nil {
		before.leave(bridge.ErrTakenOver)
	}
	for _, k := range mapping.Kinds {
		q.feeds[k] = h.lane(keyOf(t, k)).feedFor(t, q.wake)
	}
	if h.over != nil {
		q.leave(h.over)
		return q
	}
	h.takers[t] = q
	return q
}

// end ends all who take, and whoever wants to.
func (h *house) end(err error) {
	h.taking.Lock()
	defer h.taking.Unlock()
	h.over = err
	for _, q := range h.takers {
		q.leave(err)
	}
	clear(h.takers)
}

// TakenLanes are bridge.ThingLanes.
type TakenLanes struct {
	house    *house
	thing    mapping.Thing
	feeds    [len(mapping.Kinds)]*feed
	wake     chan struct{} // one of them is to read
	replaced chan struct{} // closed when the lanes are somebody else's
	why      error         // set before that
}

// feedFor makes a feed that begins with the oldest message that is not settled.
func (l *lane) feedFor(t mapping.Thing, wake chan struct{}) *feed {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &feed{lane: l, thing: t, ready: newTray(), wake: wake, last: l.floor, place: l.floor}
	f.settleNext = f.settle
	l.feed = f
	return f
}

// leave gives the lanes back, with all that is not settled. The error says that somebody else has them.
func (q *TakenLanes) leave(why error) {
	for _, f := range q.feeds {
		f.lane.mu.Lock()
		if f.lane.feed == f {
			f.end()
		}
		f.lane.mu.Unlock()
	}
	if why != nil {
		q.why = why
		close(q.replaced)
	}
}

// Lane is bridge.ThingLanes.
func (q *TakenLanes) Lane(k mapping.Kind) bridge.Source { return q.feeds[k] }

// Run is bridge.ThingLanes. Each lane reads by itself: what one waits for holds up none of the others.
func (q *TakenLanes) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var reads sync.WaitGroup
	defer reads.Wait()
	defer stop()
	for _, f := range q.feeds {
		f.run(true)
		defer f.run(false)
	}
	for {
		for _, f := range q.feeds {
			if f.begins() {
				reads.Go(func() { f.read(ctx) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-q.replaced:
			return fmt.Errorf("queue of %s: %w", q.thing, q.why)
		case <-q.wake:
		}
	}
}

// Flush is bridge.ThingLanes.
func (q *TakenLanes) Flush(ctx context.Context) error {
	var lanes []*lane
	for _, f := range q.feeds {
		lanes = append(lanes, f.lane)
	}
	return q.house.keeper.flush(ctx, lanes)
}

// Oldest is bridge.ThingLanes.
func (q *TakenLanes) Oldest() (at time.Time, waits bool) {
	for _, f := range q.feeds {
		if t, one := f.oldest(); one && (!waits || t.Before(at)) {
			at, waits = t, true
		}
	}
	return at, waits
}

func (f *feed) oldest() (at time.Time, waits bool) {
	f.lane.mu.Lock()
	defer f.lane.mu.Unlock()
	for _, h := range f.unsettled {
		if !h.lost {
			return h.at, true
		}
	}
	return time.Time{}, false
}

// Remove is bridge.ThingLanes.
func (q *TakenLanes) Remove(context.Context) error {
	q.house.taking.Lock()
	defer q.house.taking.Unlock()
	if q.house.takers[q.thing] == q {
		delete(q.house.takers, q.thing)
		q.leave(nil)
	}
	return nil
}

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
