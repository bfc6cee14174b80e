package local

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fleetbridge/bridge"
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
