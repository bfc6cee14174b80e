package local

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/mapping"
)

// handover gives what an intake has stored straight to the queues of its class. Nobody else writes to their
// stream, so a queue that has had everything until now needs no consumer to have the rest: in memory and time
// that is most of what a Thing costs the server.
//
// A queue falls behind when it has no room, or when something was stored past the intake. Then it reads the
// stream with a consumer until it has caught up.
type handover struct {
	space string // "fleets.up.>"

	mu     sync.Mutex
	queues map[string]*Queue  // by the Thing's token
	early  map[string]arrears // the stream has messages, and there is no queue for them
	last   uint64             // the stream's newest message of which the queues know
	blind  bool               // the stream may have messages for any Thing that has no queue
	era    context.Context    // the server's, in which last is the stream's; see Server.Working

	gap chan struct{} // the intake is to look what the stream has

	told ledger

	bytes  atomic.Int64  // of what the queues have in memory
	purged atomic.Uint64 // up to here the stream has nothing
}

// arrears are what a Thing's queue, or its next one, is owed.
type arrears struct {
	n    uint64 // messages; or uncounted
	told uint64 // all behind this one: the rest was handed out before
}

// uncounted is some messages or none.
const uncounted = math.MaxUint64

// Bounds of what is handed over and not settled.
const (
	handoverMessages = 4096     // of a queue
	handoverBytes    = 2 << 20  // of a queue
	handoverTotal    = 64 << 20 // of all
)

func newHandover(space string, last uint64, era context.Context) *handover {
	return &handover{space: space, last: last, era: era, queues: map[string]*Queue{}, early: map[string]arrears{}, gap: make(chan struct{}, 1)}
}

// add puts a queue in the place of the one before, which ends. It reads the stream first unless that has
// nothing for it.
func (h *handover) add(q *Queue) (before *Queue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	token := mapping.Token(string(q.thing))
	if before = h.queues[token]; before != nil {
		close(before.replaced)
		h.early[token] = before.arrears()
		before.restart()
		signal(before.wake)
	}
	owed, early := h.early[token]
	if h.blind {
		owed.n = uncounted
	}
	q.mu.Lock()
	q.unseen, q.since, q.owed = 1, h.last, owed
	if !early && owed.n == 0 {
		q.standing = direct
	}
	q.mu.Unlock()
	delete(h.early, token)
	h.queues[token] = q
	return before
}

// remove takes a queue out whose Thing is not to come back at once. What it has not settled stays in the stream.
func (h *handover) remove(q *Queue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	token := mapping.Token(string(q.thing))
	if h.queues[token] != q {
		return
	}
	delete(h.queues, token)
	q.mu.Lock()
	known := q.floor <= max(q.forgotten, h.purged.Load())
	q.mu.Unlock()
	if !known || q.settledTo(h.last) < h.last {
		h.early[token] = q.arrears()
		signal(h.gap) // perhaps it has none
	}
	q.restart()
}

// waiting says that the stream has n messages for a Thing, before there are queues.
func (h *handover) waiting(token string, n uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.early[token] = arrears{n: n}
}

// give hands a group over that was stored from a sequence on.
func (h *handover) give(first uint64, group []*nats.Msg) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if first-1 != h.last {
		h.alignLocked(first - 1)
		signal(h.gap)
	}
	for n, m := range group {
		token := thingToken(m.Subject, h.space)
		if q := h.queues[token]; q != nil {
			q.give(m, first+uint64(n), now)
		} else {
			owed := h.early[token]
			owed.add(first + uint64(n))
			h.early[token] = owed
		}
	}
	h.last = first + uint64(len(group)) - 1
}

// align is told by the intake, between two groups, what the stream's last message is. When that is another than
// the last one of which it knows, somebody else has written, or the stream has lost its end.
func (h *handover) align(last uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alignLocked(last)
}

func (h *handover) alignLocked(last uint64) {
	if last == h.last {
		return
	}
	if last < h.last {
		h.told.restart(last)
		h.purged.Store(0)
	}
	h.blind = true
	for token, owed := range h.early {
		if owed.told > 0 {
			h.early[token] = arrears{n: uncounted}
		}
	}
	for _, q := range h.queues {
		if last < h.last {
			q.restart()
		}
		q.fallBehind(h.last+1, true)
	}
	h.last = last
}

// survey is told by the intake, after align and between two groups, which Things the stream has messages for.
func (h *handover) survey(held map[string]uint64, era context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.early
	h.early = map[string]arrears{}
	for token, n := range held {
		switch {
		case h.queues[token] != nil:
		case before[token].n == uncounted || before[token].told > 0: // a purge of what its queue had settled may be under way
			h.early[token] = before[token]
		default:
			h.early[token] = arrears{n: n}
		}
	}
	h.blind, h.era = false, era
}

// current is the era in which last is the stream's.
func (h *handover) current() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.era
}

// known is the newest message of which the queues know; 0 when the intake has yet to look.
func (h *handover) known() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.blind {
		return 0
	}
	return h.last
}

// settledIn is the sequence up to which nothing in the stream is unsettled, 0 when nobody knows; and the era for
// which that holds.
func (h *handover) settledIn() (uint64, context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.early) > 0 || h.blind {
		return 0, h.era
	}
	floor := h.last
	for _, q := range h.queues {
		floor = min(floor, q.settledTo(floor))
	}
	return floor, h.era
}

// emptied tells whether a stream with a damaged record has nothing left but what is settled, and its last message. The
// intake asks between two groups.
func (h *handover) emptied() (last uint64, ok bool) {
	if !h.told.damaged() {
		return 0, false
	}
	floor, _ := h.settledIn()
	return floor, floor > 0 && floor == h.known()
}

// swept is told that the stream was emptied.
func (h *handover) swept(last uint64) {
	h.told.empty(last)
	h.purged.Store(last)
}

// all returns the queues.
func (h *handover) all() []*Queue {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.queues))
}

// end is told when a queue's Run ends: what is stored from now on is for the next queue.
func (h *handover) end(q *Queue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q.fallBehind(h.last+1, false)
}
