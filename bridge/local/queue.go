package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// ErrTakenOver ends a queue whose consumer is another bridge's now.
var ErrTakenOver = errors.New("another fleetbridge has taken the queue over")

// Queue hands out what programs published for one Thing and class: everything that the stream still
// holds, in order, oldest first. Nothing comes again by a timer. What is settled before something older
// may come again after a restart.
//
// When the connection was lost, nobody knows which messages and acknowledgements went with it. The
// consumer is then made anew and tells everything again from the start; what had been handed out
// before is recognised, and acknowledged again if it is settled.
//
// With an intake there is a consumer only while there is something to catch up with: see handover.
type Queue struct {
	store    *Store
	stream   jetstream.Stream
	thing    mapping.Thing
	consumer string
	owner    string // marks the consumer as this queue's
	created  time.Time
	log      *slog.Logger
	ready    tray // come and not taken

	all string // every subject of the Thing

	// Of Run's goroutine.
	made bool // there is a consumer
	open int  // messages asked for and not come

	mu        sync.Mutex
	unsettled map[uint64]handed // by the stream's sequence
	last      uint64            // the newest that was handed out
	lastAt    time.Time
	settled   string // where the last acknowledgement went

	// With an intake; else nil, and each message is acknowledged by itself.
	handover  *handover
	forgetter *forgetter
	wake      chan struct{} // it is to read the stream
	replaced  chan struct{} // closed when there is another queue of the Thing
	naming    sync.Mutex    // held while the consumer of the name is this queue's to make or remove
	standing  standing
	unseen    uint64    // unless direct: from here on the stream may hold what it has not seen
	owed      arrears   // what that is
	since     uint64    // the stream's last message when the queue began, up to which that is counted
	stored    uint64    // the newest that the intake has stored for the Thing
	bytes     int       // of what is unsettled and did not come from a consumer
	order     []uint64  // sequences from the first unsettled on, ascending
	floor     uint64    // up to here everything is settled
	forgotten uint64    // and up to here the stream knows it
	dirtyAt   time.Time // since when the forgetter has something to do; zero: it has nothing
	sifted    idleness  // only for sift
}

// handed is a message that was handed out.
type handed struct {
	at    time.Time // when it was stored, or a little later
	bytes int       // what it counts for; only without a consumer
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

// Queue takes over the Thing's messages of one class: whoever had them gets ErrTakenOver. Deliveries
// begin when Run does.
func (s *Store) Queue(ctx context.Context, t mapping.Thing, c mapping.Class) (*Queue, error) {
	q := &Queue{
		store: s, stream: s.up[c], thing: t, consumer: consumerName(t), owner: nuid.Next(),
		all: s.cfg.Subjects.Thing(mapping.SpaceUp, t), created: s.up[c].CachedInfo().Created,
		log: s.log.With("thing", string(t), "queue", c.String()), ready: newTray(),
		unsettled: map[uint64]handed{},
	}
	if s.handovers[c] != nil {
		q.handover, q.forgetter = s.handovers[c], s.forgetters[c]
		q.wake, q.replaced = make(chan struct{}, 1), make(chan struct{})
		if before := q.handover.add(q); before != nil { // its consumer has the same name
			before.naming.Lock()
			defer before.naming.Unlock()
		}
		if q.isDirect() {
			return q, nil
		}
	}
	err := q.create(ctx)
	if err != nil && q.handover != nil { // nobody has it
		q.handover.remove(q)
	}
	return q, err
}

// Take is bridge.Source.
func (q *Queue) Take(ctx context.Context) []bridge.Delivery { return q.ready.take(ctx, takeMost) }

// Run hands out deliveries until ctx ends, then returns nil. It returns ErrTakenOver when the messages
// are another's; any other failure is waited out.
func (q *Queue) Run(ctx context.Context) error {
	status := q.store.nc.StatusChanged(nats.CONNECTED)
	defer q.store.nc.RemoveStatusListener(status)
	if q.handover != nil {
		defer q.handover.end(q)
	}
	for ctx.Err() == nil {
		var err error
		switch direct := q.isDirect(); {
		case direct && q.made:
			q.drop(ctx)
		case direct:
			err = q.rest(ctx)
		case !q.made:
			err = q.catchUp(ctx)
		default:
			err = q.follow(ctx, status)
			if err == nil && ctx.Err() == nil && !q.isDirect() {
				err = q.rebuild(ctx)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) takenOver() error { return fmt.Errorf("queue of %s: %w", q.thing, ErrTakenOver) }

// enter hands a message out. The lock is held, which keeps the order.
func (q *Queue) enter(m *nats.Msg, seq uint64, h handed) {
	q.last, q.lastAt = max(q.last, seq), h.at
	q.release(seq)
	q.unsettled[seq] = h
	if q.forgetter != nil {
		q.handover.told.tell(seq)
		q.line(seq)
	}
	q.ready.put(q.delivery(m, seq, h.at))
}

func (q *Queue) delivery(m *nats.Msg, seq uint64, at time.Time) bridge.Delivery {
	d := bridge.Delivery{Message: bridge.Message{
		Payload: m.Data, Trace: traceOf(m.Header), Received: at, Origin: m.Subject, Sequence: seq,
	}}
	_, address, err := q.store.cfg.Subjects.Parse(m.Subject)
	if err == nil {
		d.Address = address
	} else {
		d.Err = bridge.Rejectf(bridge.CodeSubject, "%v", err)
		d.Address.Thing = q.thing
		d.Stray = strings.TrimPrefix(m.Subject, q.store.cfg.Subjects.Prefix()+"."+string(mapping.SpaceUp)+".")
	}
	if q.forgetter != nil {
		d.Stamp = stampOf(m.Header) // whatever else stores a message may not have looked whose header that is
		d.Settle = func() { q.settle(seq, at) }
		return d
	}
	reply := m.Reply
	d.Settle = func() {
		q.mu.Lock()
		full := q.nearlyFull()
		delete(q.unsettled, seq)
		q.settled = reply
		q.mu.Unlock()
		q.acknowledge(reply)
		if full {
			signal(q.ready.room)
		}
	}
	return d
}

// settle takes a message out of what is unsettled, and raises the floor to the last message before which
// everything that was handed out is settled.
func (q *Queue) settle(seq uint64, at time.Time) {
	q.mu.Lock()
	full := q.nearlyFull()
	if h, open := q.unsettled[seq]; open && h.at.Equal(at) { // else the sequences count from anew
		q.release(seq)
	}
	for len(q.order) > 0 {
		if _, open := q.unsettled[q.order[0]]; open {
			break
		}
		q.floor = q.order[0]
		q.order = q.order[1:]
	}
	q.mu.Unlock()
	q.forgetter.add(q)
	if full {
		signal(q.ready.room)
	}
}

// line puts a message where it belongs in the order. One that was settled before is open again, if it is told again;
// and when a stream has lost its end, a message may come behind one that had its number later. The lock is held.
func (q *Queue) line(seq uint64) {
	q.floor, q.forgotten = min(q.floor, seq-1), min(q.forgotten, seq-1)
	if n, there := slices.BinarySearch(q.order, seq); !there {
		q.order = slices.Insert(q.order, n, seq)
	}
}

// release takes a message out of what is unsettled. The lock is held.
func (q *Queue) release(seq uint64) {
	h := q.unsettled[seq]
	delete(q.unsettled, seq)
	if h.bytes > 0 {
		q.bytes -= h.bytes
		q.handover.bytes.Add(-int64(h.bytes))
	}
}

// nearlyFull tells that room may be waiting for a message to be settled. The lock is held.
func (q *Queue) nearlyFull() bool { return len(q.unsettled) > q.store.cfg.window()-pullBatch }

// Flush returns when the stream has forgotten everything that was settled before, or when ctx ends.
// Acknowledgements are not waited for one by one, and a server that stops drops those that it has read
// and not carried out: without Flush their messages would be sent once more after the next start.
func (q *Queue) Flush(ctx context.Context) error {
	if q.forgetter != nil {
		if err := q.forgetter.forget(ctx, q); err != nil {
			return err
		}
	}
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
