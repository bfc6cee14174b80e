package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
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
	filters  []string
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
	owed      uint64    // how much that is; or uncounted
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
		store: s, stream: s.up[c], thing: t, consumer: consumerName(t), filters: s.cfg.Subjects.Class(t, c), owner: nuid.Next(),
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

// consumerName is the Thing's token, or a hash when that is too long for a file name. The hash is no
// legal token, so it is no other Thing's.
func consumerName(t mapping.Thing) string {
	name := mapping.Token(string(t))
	if len(name) > 200 {
		sum := sha256.Sum256([]byte(t))
		return "=sha256-" + hex.EncodeToString(sum[:])
	}
	return name
}

// create makes the consumer, in the place of one that is there.
func (q *Queue) create(ctx context.Context) error {
	config := jetstream.ConsumerConfig{
		// One filter over all of the Thing's subjects, of which the stream has those of the class: with several
		// the server searches the index for each message.
		Durable: q.consumer, FilterSubject: q.all, DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: never, MaxDeliver: -1, MaxAckPending: q.store.cfg.window(),
		MemoryStorage: true, Metadata: map[string]string{metaOwner: q.owner, metaThing: string(q.thing)},
	}
	if q.forgetter != nil {
		config.MaxAckPending = -1 // a purge does not make the server go on that has reached it: room minds the window
	}
	stream := q.stream.CachedInfo().Config.Name
	for range 10 {
		stored := q.begin()
		c, err := q.stream.CreateConsumer(ctx, config)
		switch code := apiCode(err); {
		case err == nil:
			q.made = true
			if c.CachedInfo().NumPending == 0 && q.handover != nil {
				q.caughtUp(stored)
			}
			return nil
		case errors.Is(err, jetstream.ErrConsumerExists), code == jetstream.JSErrCodeConsumerExists, code == jetstream.JSErrCodeConsumerNameExists, code == jetstream.JSErrCodeConsumerAlreadyExists:
		case code == codeNotUnique:
			return fmt.Errorf("stream %s: a consumer of somebody else's takes from %s; find it with nats consumer ls %s and remove it",
				stream, strings.Join(q.filters, ", "), stream)
		default:
			return fmt.Errorf("stream %s: consumer %s: %w", stream, q.consumer, err)
		}
		if err := q.stream.DeleteConsumer(ctx, q.consumer); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("stream %s: consumer %s: %w", stream, q.consumer, err)
		}
	}
	return fmt.Errorf("stream %s: consumer %s: another fleetbridge makes it again and again; stop one of them", stream, q.consumer)
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

// follow hands out what one consumer tells. It returns nil when that one may be gone, or is not needed any
// more.
func (q *Queue) follow(ctx context.Context, status <-chan nats.Status) error {
	nc := q.store.nc
	reconnects := nc.Stats().Reconnects
	// An inbox of its own, so that nothing comes from the consumer before; with room for all that can
	// be asked for at a time, and for the word that ends each question.
	inbox := nc.NewInbox()
	in := make(chan *nats.Msg, 2*pullBatch+16)
	sub, err := nc.ChanSubscribe(inbox, in)
	if errors.Is(err, nats.ErrConnectionClosed) || err != nil && nc.IsClosed() {
		return fmt.Errorf("queue of %s: %w", q.thing, err)
	}
	if err != nil {
		_ = sleep(ctx, backoffMin)
		return nil
	}
	defer func() { _ = sub.Unsubscribe() }()
	q.open = 0
	timer := time.NewTimer(pullExpires + pullGrace)
	defer timer.Stop()
	for q.following() {
		if room := q.room(); (room >= pullBatch/2 || room > 0 && q.open == 0) && nc.IsConnected() {
			q.pull(inbox, room)
			timer.Reset(pullExpires + pullGrace)
		}
		select {
		case <-ctx.Done():
			return nil
		case m := <-in:
			if again, err := q.come(ctx, m); again || err != nil {
				return err
			}
		case <-q.replaced:
			return q.takenOver()
		case <-q.ready.room:
		case <-status:
			if nc.Stats().Reconnects != reconnects {
				return nil
			}
		case <-timer.C:
			if q.open > 0 && len(in) == 0 && nc.IsConnected() { // the last question is over and nobody said so
				q.log.Debug("the queue's consumer is silent")
				return nil
			}
			timer.Reset(pullGrace)
		}
	}
	return nil
}

func (q *Queue) takenOver() error { return fmt.Errorf("queue of %s: %w", q.thing, ErrTakenOver) }

// room is how many messages may be asked for.
func (q *Queue) room() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return min(pullBatch-q.ready.len(), q.store.cfg.window()-len(q.unsettled)) - q.open
}

// pull asks for more.
func (q *Queue) pull(inbox string, batch int) {
	request, _ := json.Marshal(struct {
		Batch    int           `json:"batch"`
		MaxBytes int64         `json:"max_bytes"`
		Expires  time.Duration `json:"expires"`
	}{batch, max(pullBytes, q.store.nc.MaxPayload()+headroom), pullExpires})
	subject := "$JS.API.CONSUMER.MSG.NEXT." + q.stream.CachedInfo().Config.Name + "." + q.consumer
	if err := q.store.nc.PublishRequest(subject, inbox, request); err == nil {
		q.open += batch
	}
}

// come handles what came: a message, or the end of a question. again tells that the consumer is gone.
func (q *Queue) come(ctx context.Context, m *nats.Msg) (again bool, err error) {
	if code := m.Header.Get("Status"); code != "" && m.Reply == "" {
		return q.ended(ctx, code, m)
	}
	q.open = max(q.open-1, 0)
	meta, err := m.Metadata()
	if err != nil {
		q.log.Warn("not a message of a stream", "subject", m.Subject, "error", err)
		return false, nil
	}
	seq, at := meta.Sequence.Stream, meta.Timestamp
	q.mu.Lock()
	entry, open := q.unsettled[seq]
	switch {
	case q.standing == behind: // another consumer tells it
	case open && !at.After(entry.at): // handed out already
	case q.settledBefore(seq, at):
		if q.forgetter == nil || seq <= max(q.forgotten, q.handover.purged.Load()) { // else it will know soon
			q.acknowledge(m.Reply)
		}
	default:
		q.seen(seq)
		q.enter(m, seq, handed{at: at})
	}
	q.mu.Unlock()
	if meta.NumPending == 0 && q.handover != nil {
		q.caughtUp(seq)
	}
	return false, nil
}

// settledBefore tells that the message was handed out and settled, but the stream doesn't know. The
// time guards against a stream that lost its end in a crash and gave the number away again. The lock is held.
func (q *Queue) settledBefore(seq uint64, at time.Time) bool {
	return seq <= q.last && !at.After(q.lastAt)
}

// enter hands a message out. The lock is held, which keeps the order.
func (q *Queue) enter(m *nats.Msg, seq uint64, h handed) {
	q.last, q.lastAt = max(q.last, seq), h.at
	q.release(seq)
	q.unsettled[seq] = h
	if q.forgetter != nil {
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

// nearlyFull tells that room may be waiting for a message to be settled. The lock is held.
func (q *Queue) nearlyFull() bool { return len(q.unsettled) > q.store.cfg.window()-pullBatch }

// acknowledge doesn't wait. One that is lost goes with the connection, and after that everything is
// told again.
func (q *Queue) acknowledge(reply string) {
	if err := q.store.nc.Publish(reply, []byte("+ACK")); err != nil {
		q.log.Debug("acknowledgement not sent, it follows after the reconnection", "error", err)
	}
}

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

// ended handles the word that ends a question.
func (q *Queue) ended(ctx context.Context, code string, m *nats.Msg) (again bool, err error) {
	text := m.Header.Get("Description")
	switch {
	case code == "100": // heartbeat
		return false, nil
	case code == "503": // nobody there: the consumer is gone, or JetStream is starting
		return true, nil
	case code == "409" && strings.Contains(text, "Consumer Deleted"):
		return false, fmt.Errorf("queue of %s, consumer %s deleted: %w", q.thing, q.consumer, ErrTakenOver)
	case code == "409" && strings.Contains(text, "Shutdown"): // the consumer was in that server's memory
		return true, nil
	case code == "409" && strings.Contains(text, "Leadership"):
		q.open = 0
		_ = sleep(ctx, backoffMin)
		return false, nil
	case code == "400" || code == "409" && strings.Contains(text, "MaxWaiting"):
		q.log.Warn("the queue's question was refused", "code", code, "error", text)
		return true, nil
	}
	if code == "409" && !strings.Contains(text, "Batch Completed") && !strings.Contains(text, "MaxBytes") {
		if sleep(ctx, backoffMin) != nil {
			return false, nil
		}
	}
	left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
	if err != nil {
		left = q.open
	}
	q.open = max(q.open-left, 0)
	// Where nothing comes any more, it was removed untold, as by age: whether that was all, a new consumer knows.
	return code == "408" && q.open == 0 && q.handover != nil, nil
}
