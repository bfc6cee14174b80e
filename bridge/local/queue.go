package local

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// Queue hands out what programs published for one Thing and kind: everything that the stream still
// holds, in order, oldest first. Nothing comes again by a timer.
//
// When the connection was lost, nobody knows which messages and acknowledgements went with it. The
// consumer is then made anew and tells everything again from the start; what had been handed out
// before is recognised, and acknowledged again if it is settled.
type Queue struct {
	store    *Store
	stream   jetstream.Stream
	thing    mapping.Thing
	key      queueKey
	consumer string
	owner    string // marks the consumer as this queue's
	created  time.Time
	ready    tray // come and not taken

	all string // every subject of the lane

	// Of Run's goroutine.
	open int // messages asked for and not come

	settleNext func() // settle, made once

	mu        sync.Mutex
	unsettled []handed // in the order of handing out, which is that of settling
	last      uint64   // the newest that was handed out
	lastAt    time.Time
	floor     uint64 // the newest that was settled: everything up to it is
	settled   string // where the last acknowledgement went
}

// handed is a message that was handed out and not settled.
type handed struct {
	seq   uint64    // in the stream; 0: the stream does not have it any more, and its settlement changes nothing
	at    time.Time // when it was stored
	reply string    // what acknowledges it
}

const (
	metaOwner = "fleetbridge.owner"
	metaThing = "fleetbridge.thing"

	// pullBatch is how many messages are asked for at a time, and pullBytes how much they may weigh:
	// together with the window this bounds what a queue holds in memory.
	pullBatch = 64
	pullBytes = 4 << 20
	// pullExpires is how long one question stands. When nothing happens, each Thing asks twice in that
	// time; a consumer that went away without a word is noticed soon after it.
	pullExpires = time.Minute
	pullGrace   = 10 * time.Second
	// never is longer than any message waits.
	never = 10 * 365 * 24 * time.Hour
)

// queue takes over the Thing's messages of one kind: whoever had them gets bridge.ErrTakenOver. Deliveries
// begin when it is run.
func (s *Store) queue(ctx context.Context, l queueKey, t mapping.Thing) (*Queue, error) {
	c := l.kind.Class()
	q := &Queue{
		store: s, stream: s.up[c], thing: t, key: l, consumer: consumerName(t, l.kind), owner: nuid.Next(),
		all: s.cfg.Subjects.Kind(t, l.kind), created: s.up[c].CachedInfo().Created, ready: newTray(),
	}
	q.settleNext = q.settle
	return q, q.create(ctx)
}

// Take is bridge.Source.
func (q *Queue) Take(ctx context.Context) []bridge.Delivery { return q.ready.take(ctx, takeMost) }

// read hands out what the stream holds, until ctx ends.
func (q *Queue) read(ctx context.Context) error {
	status := q.store.nc.StatusChanged(nats.CONNECTED)
	defer q.store.nc.RemoveStatusListener(status)
	for {
		if err := q.follow(ctx, status); err != nil || ctx.Err() != nil {
			return err
		}
		if err := q.rebuild(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

func (q *Queue) takenOver() error { return fmt.Errorf("queue of %s: %w", q.thing, bridge.ErrTakenOver) }

// enter hands a message out. The lock is held, which keeps the order.
func (q *Queue) enter(m *nats.Msg, h handed) {
	if h.seq <= q.last { // the stream has lost its end and gives the numbers out again
		q.lose(h.seq)
	}
	q.last, q.lastAt = h.seq, h.at
	q.unsettled = append(q.unsettled, h)
	q.ready.put(q.delivery(m, h))
}

// lose notes that what was handed out from a sequence on is not in the stream any more. The lock is held.
func (q *Queue) lose(seq uint64) {
	q.floor = min(q.floor, seq-1)
	for i := range q.unsettled {
		if h := &q.unsettled[i]; h.seq >= seq {
			*h = handed{at: h.at}
		}
	}
}

func (q *Queue) delivery(m *nats.Msg, h handed) bridge.Delivery {
	d := bridge.Delivery{Settle: q.settleNext, Message: bridge.Message{
		Payload: m.Data, Trace: traceOf(m.Header), Received: h.at, Origin: m.Subject, Sequence: h.seq,
	}}
	d.Address, d.Stray, d.Err = addressOf(q.store.cfg.Subjects, q.thing, m.Subject)
	return d
}

// settle is Settle of the oldest unsettled message.
func (q *Queue) settle() {
	q.mu.Lock()
	full := q.nearlyFull()
	h := q.unsettled[0]
	q.unsettled[0] = handed{}
	if q.unsettled = q.unsettled[1:]; len(q.unsettled) == 0 {
		q.unsettled = nil
	}
	if h.seq > 0 {
		q.floor = h.seq
	}
	if h.reply != "" {
		q.settled = h.reply
	}
	q.mu.Unlock()
	if h.reply != "" {
		q.acknowledge(h.reply)
	}
	if full {
		signal(q.ready.room)
	}
}

// oldest returns the first unsettled message that the stream still has. The lock is held.
func (q *Queue) oldest() (h handed, ok bool) {
	for _, h := range q.unsettled {
		if h.seq > 0 {
			return h, true
		}
	}
	return handed{}, false
}

// Oldest returns since when the oldest message waits that was handed out and is not settled; false: there is none.
// What the queue has not read yet is newer.
func (q *Queue) Oldest() (at time.Time, waits bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	h, waits := q.oldest()
	return h.at, waits
}

// nearlyFull tells that room may be waiting for a message to be settled. The lock is held.
func (q *Queue) nearlyFull() bool { return len(q.unsettled) > q.store.cfg.window()-pullBatch }

// Flush returns when the stream has forgotten everything that was settled before, or when ctx ends.
// Acknowledgements are not waited for one by one, and a server that stops drops those that it has read
// and not carried out: without Flush their messages would be sent once more after the next start.
func (q *Queue) Flush(ctx context.Context) error {
	q.mu.Lock()
	reply := q.settled
	q.mu.Unlock()
	if reply == "" {
		return nil
	}
	// Acknowledging the last one again changes nothing, but the answer comes behind all the others.
	_, err := q.store.nc.RequestWithContext(ctx, reply, []byte("+ACK"))
	return err
}

// log is made when there is something to say: most queues never say anything.
func (q *Queue) log() *slog.Logger {
	return q.store.log.With("thing", string(q.thing), "queue", q.key.kind.String())
}
