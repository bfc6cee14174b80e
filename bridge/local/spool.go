package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/storedir"
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

	records map[string]*records // by sort
	views   *views
	shadows *shadowView

	settled chan struct{} // something was, and the journal does not have it yet
	failure atomic.Pointer[error]
	failed  chan struct{} // there is a failure
	ended   chan struct{}
	once    sync.Once
	work    sync.WaitGroup
}

// settleRest is how long what was settled may wait for a write that carries it: so much comes again after a kill.
const settleRest = time.Second

// OpenSpool opens the journal of a store directory and begins to take what programs publish. What streams of an older
// version hold is taken over first. The spool works as long as the store.
func (s *Store) OpenSpool(ctx context.Context, cfg SpoolConfig) (*Spool, error) {
	p := &Spool{cfg: cfg, store: s, dir: filepath.Join(cfg.Dir, s.cfg.Subjects.Name(storedir.Journal)),
		settled: make(chan struct{}, 1), failed: make(chan struct{}, 1), ended: make(chan struct{})}
	p.house = newHouse(p, s.cfg.Subjects, cfg.window(), s.log)
	p.pending = true
	p.things.Store(&s.cfg.Things)
	_, _, kept, _ := storedir.Space(cfg.Dir)
	var err error
	p.journal, err = journal.Open(p.dir, journal.Options{
		SegmentSize: cfg.Segment, LargestGroup: 2*int64(cfg.Payload) + wire.Headroom, MinFree: int64(kept), Interval: cfg.Interval, FS: cfg.FS, Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	if err := p.open(ctx); err != nil {
		p.Close()
		s.spool = nil
		return nil, err
	}
	return p, nil
}

func (s *Spool) open(ctx context.Context) error {
	s.sayLimits()
	s.sayDamage()
	s.store.custody.judgeJournal(s.journal, s.cfg.Interval > 0)
	if err := s.openRecords(ctx); err != nil {
		return err
	}
	if err := s.openViews(ctx); err != nil {
		return err
	}
	if err := s.openShadows(ctx); err != nil {
		return err
	}
	s.store.spool = s
	if err := s.store.viewsOpened(ctx); err != nil {
		return err
	}
	if err := s.takeOverStreams(ctx); err != nil {
		return err
	}
	for _, b := range s.journal.Lanes() {
		of, ok := parseLaneKey(b.Lane)
		if !ok {
			return fmt.Errorf("journal %s: it holds messages under %q, which is no name of a lane; another program has written it, move it away", s.dir, b.Lane)
		}
		l := s.lane(of)
		l.stored, l.weight = s.journal.Last(), weigh(b)
		s.load(l)
		s.used[of.kind.Class()].Add(l.weight)
		s.accepted.Add(uint64(b.Messages))
	}
	s.sayLeftovers()
	most := s.store.nc.MaxPayload()
	s.largest = int(min(max(most-wire.Headroom, most/2), s.journal.LargestGroup()-wire.Headroom))
	s.work.Go(s.save)
	s.work.Go(s.watch)
	for _, class := range mapping.Classes {
		in, err := s.newIntake(class)
		if err != nil {
			return err
		}
		s.intakes[class] = in
		if err := in.listen(classSubjects(s.subjects, s.store.cfg.Things, class)); err != nil {
			return err
		}
	}
	return errors.Join(
		s.serve(fillsSubject(s.subjects), func([]byte) any { return s.Fills() }),
		s.serve(findSubject(s.subjects), func(id []byte) any { return s.find(string(id)) }),
		s.serve(waitingSubject(s.subjects), s.waiting),
		s.serveReplays(),
	)
}

// openRecords prepares what the bridge must remember, and takes over what an older version remembered in buckets.
func (s *Spool) openRecords(ctx context.Context) error {
	s.records = map[string]*records{}
	for _, name := range recordSorts {
		r := newRecords(s, name)
		var kept func(key string) bool
		if name == wire.BucketMarks {
			kept = func(key string) bool { return key == custodyKey || key == revisionKey }
		}
		if err := r.takeOver(ctx, kept); err != nil {
			return err
		}
		if s.records[name] = r; r.life > 0 {
			s.work.Go(r.expire)
		}
	}
	return nil
}

// serve answers, in JSON, what the commands of an operator ask on a subject, one question after the other.
func (s *Spool) serve(subject string, answer func(question []byte) any) error {
	_, err := s.cfg.Intake.Subscribe(subject, func(m *nats.Msg) {
		if wire.Answerable(s.subjects, m.Reply) {
			out, _ := json.Marshal(answer(m.Data)) // texts, numbers and times
			_ = s.cfg.Intake.Publish(m.Reply, out)
		}
	})
	if err != nil {
		return fmt.Errorf("subscribing to %s: %w", subject, err)
	}
	return nil
}

// sayLeftovers tells of messages of Things that are not configured any more. They stay for the day the Thing comes back.
func (s *Spool) sayLeftovers() {
	for token, n := range s.queued() {
		name, err := mapping.Untoken(token)
		if err != nil {
			name = token
		}
		if !slices.Contains(*s.things.Load(), mapping.Thing(name)) {
			s.log.Warn("messages of a Thing that is not configured stay in the queue; add it again to send them", "thing", name, "messages", n)
		}
	}
}

// Close takes nothing more from programs, and closes the journal when what it has taken is on the disk.
func (s *Spool) Close() {
	s.once.Do(func() {
		for _, in := range s.intakes {
			if in != nil {
				in.close()
			}
		}
		close(s.ended)
		if s.shadows != nil {
			s.shadows.settle()
		}
		if s.views != nil {
			s.views.close()
		}
		s.work.Wait()
		if s.cfg.Intake != nil {
			s.cfg.Intake.Close()
		}
		if err := s.journal.Close(); err != nil {
			s.log.Error("the journal can't be closed in order; some messages that the broker has may be sent again after the next start", "journal", s.dir, "error", err)
		}
	})
}

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
	if now := used.Add(bytes); s.cfg.Up > 0 && now > s.cfg.Up {
		used.Add(-bytes)
		done(outcome{err: errFull})
		return
	}
	g := &journal.Group{ID: idOf(l.key, e.id), Lazy: class == mapping.Telemetry && s.cfg.Interval > 0}
	g.Message(l.key, body)
	err := s.journal.Enqueue(context.Background(), g, func(r journal.Receipt, err error) {
		if err == nil && !r.Duplicate {
			s.accepted.Add(1)
			flow.Signal(s.store.moved)
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
