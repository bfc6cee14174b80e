package local

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
	queues map[string]*Queue // by the Thing's token
	early  map[string]bool   // the stream may have messages, and there is no queue for them
	last   uint64            // the stream's newest message of which the queues know
	blind  bool              // the stream may have messages for any Thing that has no queue
	era    context.Context   // the server's, in which last is the stream's; see Server.Working

	gap chan struct{} // the intake is to look what the stream has

	bytes  atomic.Int64  // of what the queues have in memory
	purged atomic.Uint64 // up to here the stream has nothing
	read   atomic.Uint64 // up to here a queue has read the stream
}

// Bounds of what is handed over and not settled.
const (
	handoverMessages = 4096     // of a queue
	handoverBytes    = 2 << 20  // of a queue
	handoverTotal    = 64 << 20 // of all
)

func newHandover(space string, last uint64) *handover {
	return &handover{space: space, last: last, queues: map[string]*Queue{}, early: map[string]bool{}, gap: make(chan struct{}, 1)}
}

// add puts a queue in the place of the one before, which ends. It reads the stream first unless that has
// nothing for it.
func (h *handover) add(q *Queue) (before *Queue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	token := mapping.Token(string(q.thing))
	if before = h.queues[token]; before != nil {
		close(before.replaced)
		before.restart()
		signal(before.wake)
	}
	q.mu.Lock()
	q.direct, q.unseen = before == nil && !h.early[token] && !h.blind, 1
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
		h.early[token] = true
		signal(h.gap) // perhaps it has not
	}
	q.restart()
}

// waiting says that the stream has messages for a Thing, before there are queues.
func (h *handover) waiting(token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.early[token] = true
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
			h.early[token] = true
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
		h.purged.Store(0)
		h.read.Store(0)
	}
	h.blind = true
	for _, q := range h.queues {
		if last < h.last {
			q.restart()
		}
		q.fallBehind(h.last + 1)
	}
	h.last = last
}

// survey is told by the intake, after align and between two groups, which Things the stream has messages for.
func (h *handover) survey(tokens map[string]bool, era context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.early)
	for token := range tokens {
		if h.queues[token] == nil {
			h.early[token] = true
		}
	}
	h.blind, h.era = false, era
}

// enter begins an era in which last is the stream's.
func (h *handover) enter(era context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.era = era
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

// settledTo is the sequence up to which nothing in the stream is unsettled; 0 when nobody knows.
func (h *handover) settledTo() uint64 {
	floor, _ := h.settledIn()
	return floor
}

// settledIn is settledTo with the era for which it holds.
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

// give hands out what the intake has stored, if the queue needs it and has room for it.
func (q *Queue) give(m *nats.Msg, seq uint64, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stored = seq
	if !q.direct {
		return
	}
	n := len(m.Subject) + len(m.Data)
	if len(q.unsettled) >= handoverMessages || q.bytes+n > handoverBytes || q.handover.bytes.Load() > handoverTotal {
		q.fall(seq)
		signal(q.wake)
		return
	}
	q.bytes += n
	q.handover.bytes.Add(int64(n))
	q.enter(m, seq, handed{at: now, bytes: n})
}

func (q *Queue) isDirect() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.direct
}

// begin is told that a consumer is made, which tells everything. It returns the newest message that the intake
// has stored for the Thing.
func (q *Queue) begin() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.doubt, q.anew = false, false
	return q.stored
}

// following tells that the queue is to go on with the consumer that it has.
func (q *Queue) following() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.direct && !q.anew
}

// fallBehind has the queue read the stream, which may hold messages for it from a sequence on.
func (q *Queue) fallBehind(seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.direct {
		q.fall(seq)
	}
	q.doubt = true
	signal(q.wake)
}

// fall ends that the intake hands over. The lock is held.
func (q *Queue) fall(seq uint64) { q.direct, q.unseen, q.anew = false, seq, true }

// hasRead is told how far a queue has read the stream, before it has caught up.
func (h *handover) hasRead(seq uint64) {
	for old := h.read.Load(); old < seq && !h.read.CompareAndSwap(old, seq); old = h.read.Load() {
	}
}

// caughtUp is told that the stream had nothing more for the queue after a sequence. The intake may know better;
// and when somebody else has written meanwhile, nobody knows: then another consumer tells.
func (q *Queue) caughtUp(seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.handover == nil || q.anew:
	case q.doubt:
		q.anew = true
	default:
		q.direct = q.stored <= seq && q.roomy() && !q.over()
	}
}

// roomy tells that the queue would not fall behind again with the next message: each time it is told all that
// is unsettled once more. The lock is held.
func (q *Queue) roomy() bool {
	return len(q.unsettled) <= handoverMessages/2 && q.bytes <= handoverBytes/2 && q.handover.bytes.Load() <= handoverTotal/2
}

// over tells that there is another queue for the Thing.
func (q *Queue) over() bool {
	select {
	case <-q.replaced:
		return true
	default:
		return false
	}
}

// settledTo is the sequence up to which the stream has nothing unsettled for the queue, all at the most.
func (q *Queue) settledTo(all uint64) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) > 0 {
		all = min(all, q.order[0]-1)
	}
	if !q.direct {
		all = min(all, q.unseen-1)
	}
	return all
}

// restart forgets what was handed out: the sequences count from anew, or it is the next queue's.
func (q *Queue) restart() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.handover != nil {
		q.handover.bytes.Add(-int64(q.bytes))
	}
	clear(q.unsettled)
	q.bytes, q.stored, q.last, q.lastAt = 0, 0, 0, time.Time{}
	q.order, q.floor, q.forgotten = nil, 0, 0
	q.fall(1)
	signal(q.ready.room)
}

// rest waits until there is something to read.
func (q *Queue) rest(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-q.wake:
	case <-q.replaced:
		return q.takenOver()
	}
	return nil
}

// catchUp makes a consumer, once there is room for what it tells.
func (q *Queue) catchUp(ctx context.Context) error {
	for q.crowded() {
		select {
		case <-ctx.Done():
			return nil
		case <-q.ready.room:
		case <-q.replaced:
			return q.takenOver()
		}
	}
	err := q.consume(ctx)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	if !errors.Is(err, ErrTakenOver) {
		q.log.Warn("the queue's consumer can't be made, trying again", "error", err)
		err = q.rebuild(ctx)
	}
	return err
}

func (q *Queue) consume(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	q.naming.Lock()
	defer q.naming.Unlock()
	if q.over() {
		return q.takenOver()
	}
	if err := q.forgetter.forget(ctx, q); err != nil { // or it would be told again
		return err
	}
	if q.undropped { // it would go on where it is, and may have told nobody
		if err := q.stream.DeleteConsumer(ctx, q.consumer); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return err
		}
		q.undropped = false
	}
	return q.create(ctx)
}

// crowded tells that there is no room for much; room is signalled when there is.
func (q *Queue) crowded() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.unsettled) > 0 && q.nearlyFull()
}

// drop removes the consumer, which has nothing more to tell.
func (q *Queue) drop(ctx context.Context) {
	q.made = false
	q.naming.Lock()
	defer q.naming.Unlock()
	if q.over() { // it is the next queue's, or gone
		return
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if err := q.stream.DeleteConsumer(ctx, q.consumer); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		q.undropped = true
		q.log.Debug("the queue's consumer was not removed", "error", err) // it is before the next one is made
	}
}

// end is told when a queue's Run ends: what is stored from now on is for the next queue.
func (h *handover) end(q *Queue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q.fallBehind(h.last + 1)
}
