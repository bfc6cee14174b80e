package local

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// standing is how a queue gets what its stream holds.
type standing int

const (
	behind   standing = iota // by a consumer that is to be made, and tells everything from the start
	reading                  // by that consumer
	doubtful                 // by that consumer, whose word that nothing is left may be older than what was stored past the intake
	direct                   // from the intake
)

// give hands out what the intake has stored, if the queue needs it and has room for it.
func (q *Queue) give(m *nats.Msg, seq uint64, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stored = seq
	if seq <= q.last { // a consumer has told it before the intake had the PubAck
		return
	}
	n := len(m.Subject) + size(m) // the payload lies in one piece with the headers that it came with
	if q.standing == direct && (len(q.unsettled) >= handoverMessages || q.bytes+n > handoverBytes || q.handover.bytes.Load() > handoverTotal) {
		q.fall(seq)
		signal(q.wake)
	}
	if q.standing != direct { // a consumer tells it
		q.owed.add(seq)
		return
	}
	q.bytes += n
	q.handover.bytes.Add(int64(n))
	q.enter(m, seq, handed{at: now, bytes: n})
}

// add counts a message that was stored.
func (a *arrears) add(seq uint64) {
	if a.n != uncounted && seq > a.told {
		a.n++
	}
}

// arrears are what the queue has not handed out.
func (q *Queue) arrears() arrears {
	q.mu.Lock()
	defer q.mu.Unlock()
	return arrears{n: q.owed.n, told: max(q.owed.told, q.last)}
}

func (q *Queue) isDirect() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.standing == direct
}

// begin is told that a consumer is made, which tells everything. It returns the newest message that the intake
// has stored for the Thing.
func (q *Queue) begin() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.standing = reading
	return q.stored
}

// following tells that the queue is to go on with the consumer that it has.
func (q *Queue) following() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.standing == reading || q.standing == doubtful
}

// fallBehind has the queue read the stream, which may hold messages for it from a sequence on: the intake's, or
// somebody else's, too, so that nobody knows how many.
func (q *Queue) fallBehind(seq uint64, others bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if others {
		q.owed.n = uncounted
	}
	switch q.standing {
	case direct:
		q.fall(seq)
	case reading:
		q.standing = doubtful
	}
	signal(q.wake)
}

// fall ends that the intake hands over. The lock is held.
func (q *Queue) fall(seq uint64) { q.standing, q.unseen = behind, seq }

// caughtUp is told that the stream had nothing more for the queue after a sequence. The intake may know better;
// and when somebody else has written meanwhile, nobody knows: then another consumer tells.
func (q *Queue) caughtUp(seq uint64) {
	q.mu.Lock()
	if q.standing == doubtful {
		q.standing = behind
	}
	done := q.standing == reading && q.stored <= seq && q.roomy() && !q.over()
	missing := q.owed.n
	if done {
		q.standing, q.owed.n = direct, 0
	}
	q.mu.Unlock()
	if !done {
		return
	}
	lost := missing > 0 && missing != uncounted
	if lost {
		q.handover.told.missed()
	}
	q.forgetter.add(q) // what it had kept
	signal(q.forgetter.more)
	if lost {
		q.log.Error("stored messages can't be read any more: their records on the disk are damaged, or somebody purged them; they are lost",
			"stream", q.stream.CachedInfo().Config.Name, "messages", missing)
	}
}

// seen notes that a consumer has told a message that was not handed out before. The lock is held.
func (q *Queue) seen(seq uint64) {
	q.unseen = max(q.unseen, seq) // what comes next may be damaged, and a purge must not end in front of that
	if q.owed.n != uncounted && q.owed.n > 0 && seq > q.owed.told && (seq <= q.since || seq <= q.stored) {
		q.owed.n--
	}
}

// purgeable tells that all of the Thing's up to the last message that came has come, and none of it is damaged. While
// a consumer tells, nobody knows. The lock is held.
func (q *Queue) purgeable() bool {
	return (q.standing == direct || q.unseen > q.last) && !q.handover.told.damaged()
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
	if q.standing != direct {
		all = min(all, q.unseen-1)
	}
	return all
}

// done is the floor, but for the last message that a consumer has told: what follows may be damaged. The lock is held.
func (q *Queue) done() uint64 {
	if q.standing != direct {
		return min(q.floor, q.unseen-1)
	}
	return q.floor
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
	q.owed = arrears{n: uncounted}
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
	making, cancel := context.WithTimeout(ctx, apiTimeout)
	_ = q.forgetter.forget(making, q) // or it would be told again, and passed over
	cancel()
	return q.rebuild(ctx)
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
	if err := q.stream.DeleteConsumer(ctx, q.consumer); err != nil {
		q.log.Debug("the queue's consumer was not removed", "error", err) // it is before the next one is made
	}
}
