package local

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// Spool is bridge.Lanes with the embedded server: what programs publish, and what the bridge itself enqueues, is kept in a
// journal until the broker has it. PubAcks name the streams that an external server would have.
//
// A spool is made of an intake for each class, which hears what programs publish and lets it wait in turns; the journal; a
// lane for each Thing and kind, which hands out what is on the disk; and feeds, which have it for one taker each.
//
// What a crash leaves:
//
//	publish    before the sync           nothing, or the message; nobody had a PubAck
//	           after it                  the message; a program that publishes it again with its id hears that it is a duplicate
//	hand out   at any time               the message, which comes again
//	settle     before the next write     the message, which comes again; Flush and Close write
//	           after it                  nothing
//	take over  between two groups        what was moved in the journal, and the rest in its stream; see takeover.go
//
// Locks: taking, then mu, then a lane's, then the journal's own. The journal's committer calls lane.put without any.
type Spool struct {
	*house
	cfg     SpoolConfig
	store   *Store
	dir     string // of the journal
	journal *journal.Journal
	base    uint64 // what is added to the journal's numbers; see takeover.go
	largest int    // bytes that a message may have, with its headers
	intakes [len(mapping.Classes)]*intake

	used     [len(mapping.Classes)]atomic.Int64 // bytes that wait, or are on their way to the journal
	accepted atomic.Uint64
	things   atomic.Pointer[[]mapping.Thing]
	settled  chan struct{} // something was, and the journal does not have it yet

	besides
	failing
	life
}

// besides is what the journal keeps besides lanes.
type besides struct {
	records map[string]*records // by sort
	views   *views
	shadows *shadowView
}

// failing is why something was not stored.
type failing struct {
	failure atomic.Pointer[error] // the last one
	failed  chan struct{}         // there is one
}

// life is of what works until it is closed.
type life struct {
	ended chan struct{} // closed first
	once  sync.Once
	work  sync.WaitGroup
}

// settleRest is how long what was settled may wait for a write that carries it: so much comes again after a kill.
const settleRest = time.Second

// entries are the messages of a lane of the journal's behind a number, in order, with their numbers: those that can be
// read. So many bytes are read at once.
func (s *Spool) entries(lane string, after uint64, limit int64) iter.Seq2[uint64, *entry] {
	return func(yield func(uint64, *entry) bool) {
		for {
			messages := s.journal.Read(lane, after, limit)
			if len(messages) == 0 {
				return
			}
			for _, m := range messages {
				after = m.Number
				if m.Err != nil {
					continue
				}
				if e, err := decodeEntry(m.Body); err == nil && !yield(m.Number, &e) {
					return
				}
			}
		}
	}
}

// outcome is what became of a message that was to be stored.
type outcome struct {
	sequence  uint64
	duplicate bool
	err       error
}

// errFull says that a class has as many bytes as it may.
var errFull = errors.New("maximum bytes exceeded")

// append stores a message of a class. An id that comes again within two minutes is a duplicate. done is called once, in
// the order of the calls, and must not block; the entry is the spool's from now on.
func (s *Spool) append(of queueKey, e *entry, done func(outcome)) {
	class, l, body := of.kind.Class(), s.lane(of), e.encode()
	bytes := int64(len(body)) + messageCost
	used := &s.used[class]
	if now, most := used.Add(bytes), s.store.cfg.Up; most > 0 && now > most {
		used.Add(-bytes)
		done(outcome{err: errFull})
		return
	}
	g := &journal.Group{ID: idOf(l.key, e.id), Lazy: class == mapping.Telemetry && s.cfg.Interval > 0}
	g.Message(l.key, body)
	err := s.journal.Enqueue(context.Background(), g, func(r journal.Receipt, err error) {
		if err == nil && !r.Duplicate {
			s.accepted.Add(1)
			flow.Signal(s.store.troubles.moved)
			l.put(r.First, e, bytes)
			done(outcome{sequence: s.sequence(r.First, e)})
			return
		}
		used.Add(-bytes)
		s.fails(err)
		done(outcome{sequence: s.base + r.First, duplicate: err == nil, err: err})
	})
	if err != nil {
		used.Add(-bytes)
		done(outcome{err: err})
	}
}

// save has the journal know what is settled when nothing else is written.
func (s *Spool) save() {
	for {
		select {
		case <-s.ended:
			return
		case <-s.settled:
		}
		select {
		case <-s.ended: // the journal's end writes it
			return
		case <-time.After(settleRest):
		}
		if err := s.journal.Flush(context.Background()); err != nil {
			s.fails(err)
			flow.Signal(s.settled)
		}
	}
}

// queued counts by the Thing's token.
func (s *Spool) queued() map[string]uint64 {
	out := map[string]uint64{}
	for _, b := range s.journal.Lanes() {
		of, _ := parseLaneKey(b.Lane)
		out[of.token] += uint64(b.Messages)
	}
	return out
}

// Queued is bridge.Lanes.
func (s *Spool) Queued(context.Context) (map[mapping.Thing]uint64, error) {
	return ofThings(s.queued(), *s.things.Load()), nil
}

// Left is bridge.Lanes.
func (s *Spool) Left(_ context.Context, things []mapping.Thing) (map[mapping.Thing]uint64, error) {
	return ofThings(s.queued(), things), nil
}

// Accepted is bridge.Lanes.
func (s *Spool) Accepted(context.Context) (uint64, error) { return s.accepted.Load(), nil }

// SetThings is bridge.Lanes.
func (s *Spool) SetThings(_ context.Context, things []mapping.Thing) error {
	if len(things) == 0 {
		return errors.New("things is empty, name at least one")
	}
	for _, class := range mapping.Classes {
		if err := s.intakes[class].listen(classSubjects(s.subjects, things, class)); err != nil {
			return err
		}
	}
	things = slices.Clone(things)
	s.things.Store(&things)
	return nil
}

// Enqueue is bridge.Outbox.
func (s *Spool) Enqueue(ctx context.Context, a mapping.Address, payload []byte, t bridge.Trace) (bridge.Receipt, error) {
	m := nats.NewMsg(s.subjects.Print(mapping.SpaceUp, a))
	m.Data = slices.Clone(payload)
	wire.SetTrace(m.Header, t)
	if !slices.Contains(*s.things.Load(), a.Thing) {
		return bridge.Receipt{}, fmt.Errorf("no stream takes %s", m.Subject)
	}
	in := s.intakes[a.Route().Class()]
	end := make(chan outcome, 1)
	in.enqueue(m, func(o outcome) { end <- o })
	select {
	case o := <-end:
		if o.err != nil {
			return bridge.Receipt{}, fmt.Errorf("%s: %w", m.Subject, o.err)
		}
		return bridge.Receipt{Stream: in.stream, Sequence: o.sequence}, nil
	case <-ctx.Done():
		return bridge.Receipt{}, ctx.Err()
	case <-s.ended:
		return bridge.Receipt{}, journal.ErrClosed
	}
}

// Pending is bridge.Outbox.
func (s *Spool) Pending(_ context.Context, a mapping.Address) (bool, error) {
	return s.isPending(s.lane(keyOf(a.Thing, a.Route().Kind)), s.subjects.Print(mapping.SpaceUp, a)), nil
}

func (s *Spool) read(_ context.Context, l *lane, after uint64, _ int) (out []laneMessage, _ error) {
	for _, m := range s.journal.Read(l.key, after, readBytes) {
		e, err := decodeEntry(m.Body)
		if err != nil { // it becomes a dead letter as it is
			e = entry{subject: l.key, received: time.Now(), payload: m.Body}
		}
		out = append(out, laneMessage{m.Number, &e, m.Err})
	}
	return out, nil
}

func (s *Spool) settle(l *lane, floor uint64) {
	now := weigh(s.journal.Settle(l.key, floor))
	s.used[l.of.kind.Class()].Add(now - l.weight)
	l.weight = now
	flow.Signal(s.settled)
	flow.Signal(s.store.troubles.moved)
}

func (s *Spool) flush(ctx context.Context, _ []*lane) error { return s.journal.Flush(ctx) }

func (s *Spool) sequence(number uint64, e *entry) uint64 {
	if e.sequence > 0 {
		return e.sequence
	}
	return s.base + number
}

func (s *Spool) missed(l *lane, m misses) {
	s.log.Error("stored messages can't be read any more: their records on the disk are damaged; they are lost",
		"thing", l.thing(), "queue", l.of.kind.String(), "journal", s.dir, "messages", m.n, "from", m.first, "to", m.last, "error", m.err)
}

// isPending reports whether a message with a subject is not settled.
func (s *Spool) isPending(l *lane, subject string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending != nil {
		return l.pending[l.hash(subject)] > 0
	}
	for _, e := range s.entries(l.key, l.floor, readBytes) { // nobody asks
		if e.subject == subject {
			return true
		}
	}
	return false
}

// load reads what Pending is asked about, at the start.
func (s *Spool) load(l *lane) {
	if l.pending == nil {
		return
	}
	for number, e := range s.entries(l.key, 0, readBytes) {
		l.note(number, e.subject)
	}
}

// TakeOver is bridge.Lanes.
func (s *Spool) TakeOver(_ context.Context, t mapping.Thing) (bridge.ThingLanes, error) {
	return s.takeOver(t), nil
}

// sendDown stores a message for programs as if the cloud had sent it now.
func (s *Spool) sendDown(ctx context.Context, m bridge.Message) error {
	stored := make(chan error, 1)
	if err := s.store.Down().Send(ctx, m, func(err error) { stored <- err }); err != nil {
		return err
	}
	select {
	case err := <-stored:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
