package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// StoreConfig says what the streams hold and how much.
type StoreConfig struct {
	Subjects mapping.Subjects
	Things   []mapping.Thing // only they can be published for; at least one
	Replicas int             // 0: 1
	Up       int64           // bytes that each up stream may hold, and that of dead letters; 0: no limit
	Down     Limits
	// Relaxed leaves the sync of telemetry on its way up to the server's interval. Everything else is as
	// the server is set.
	Relaxed bool
	// Intake is a connection of its own to a server that ends with this process: the bridge then stores
	// what programs publish, in groups, but for a relaxed class, and closes it. nil: the streams take it
	// themselves, and a message id counts for all Things.
	Intake *nats.Conn
	// Working is the server's, for Intake; nil: it always works.
	Working      func() context.Context
	Window       int           // how many deliveries of a queue may be unsettled; 0: 256
	ExecutionTTL time.Duration // how long a command's execution is remembered; 0: 168h
}

func (c StoreConfig) working() context.Context {
	if c.Working == nil {
		return context.Background()
	}
	return c.Working()
}

func (c StoreConfig) replicas() int { return max(c.Replicas, 1) }

func (c StoreConfig) window() int {
	if c.Window <= 0 {
		return 256
	}
	return c.Window
}

func (c StoreConfig) executionTTL() time.Duration {
	if c.ExecutionTTL <= 0 {
		return 168 * time.Hour
	}
	return c.ExecutionTTL
}

// Store is all that is kept in NATS: streams and buckets.
type Store struct {
	cfg     StoreConfig
	nc      *nats.Conn
	js      jetstream.JetStream
	log     *slog.Logger
	up      [len(mapping.Classes)]jetstream.Stream
	down    jetstream.Stream
	buckets map[string]*bucket

	things  atomic.Pointer[[]mapping.Thing] // that can be published for
	shaping sync.Mutex                      // held while an up stream's configuration changes

	toDown, toDead *publisher
	intakes        [len(mapping.Classes)]*intake // nil: the stream takes what is published itself
	// nil without an intake, and where that stores no groups
	handovers  [len(mapping.Classes)]*handover
	forgetters [len(mapping.Classes)]*forgetter

	custody *custody
	// before is how many messages of each class had come and gone when the store was opened.
	before [len(mapping.Classes)]uint64
	sieves [len(mapping.Classes)]sieve // only for Sift
}

// Open creates what is missing, brings up to date what can be, and fails with the mend when something
// is there that doesn't fit. What an earlier configuration left in the queues stays there.
func Open(ctx context.Context, nc *nats.Conn, cfg StoreConfig, log *slog.Logger) (*Store, error) {
	if len(cfg.Things) == 0 {
		return nil, errors.New("things is empty, name at least one")
	}
	js, err := newJetStream(nc)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, nc: nc, js: js, log: log, buckets: map[string]*bucket{}}
	s.things.Store(&cfg.Things)
	if s.custody, err = loadCustody(ctx, js, cfg.Subjects.Name(bucketMarks), log); err != nil {
		return nil, err
	}
	dead, err := s.openStreams(ctx)
	if err == nil {
		err = s.openBuckets(ctx)
	}
	if err != nil {
		return nil, err
	}
	for class, up := range s.up {
		if cfg.Intake != nil && takesBatches(up) {
			s.handovers[class] = newHandover(cfg.Subjects.Space(mapping.SpaceUp), up.CachedInfo().State.LastSeq, cfg.working())
		}
	}
	if err := s.leftovers(ctx); err != nil {
		return nil, err
	}
	if err := s.Note(ctx, false); err != nil { // from now on the last stop does not speak for what is there
		return nil, err
	}
	s.toDown = newPublisher(nc, "down", takesBatches(s.down), log)
	s.toDead = newPublisher(nc, "dead letters", takesBatches(dead), log)
	if cfg.Intake != nil {
		if err := s.takeIn(); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// openStreams sees to the streams, tells what is missing of them, and returns the one of dead letters.
func (s *Store) openStreams(ctx context.Context) (dead jetstream.Stream, err error) {
	streams := map[string]jetstream.Stream{}
	for _, want := range s.cfg.streams(s.nc.MaxPayload()) {
		stream, err := ensureStream(ctx, s.js, want, s.custody)
		if err == nil {
			err = s.custody.compare(ctx, stream)
		}
		if err != nil {
			return nil, err
		}
		streams[want.Name] = stream
	}
	for _, class := range mapping.Classes {
		s.up[class] = streams[s.cfg.Subjects.Name(upStream(class))]
		s.before[class] = gone(s.up[class])
	}
	s.down = streams[s.cfg.Subjects.Name(streamDown)]
	return streams[s.cfg.Subjects.Name(streamDead)], nil
}

func (s *Store) openBuckets(ctx context.Context) error {
	for _, want := range s.cfg.buckets() {
		kv, err := ensureBucket(ctx, s.js, want)
		if err != nil {
			return err
		}
		s.buckets[want.Bucket] = &bucket{kv: kv, js: s.js, config: want}
		if want.Bucket == s.cfg.Subjects.Name(bucketMarks) {
			s.custody.kv = kv
		}
	}
	return nil
}

func gone(s jetstream.Stream) uint64 {
	state := s.CachedInfo().State
	return state.LastSeq - state.Msgs
}

// takesBatches tells whether the server knows atomic batches (2.12 and later).
func takesBatches(s jetstream.Stream) bool { return s.CachedInfo().Config.AllowAtomicPublish }

// Close takes nothing more from programs and stops the publishers. What they have not stored is dropped,
// and its done is not called; so the pumps are stopped first. The connection stays open, but for the intake's.
func (s *Store) Close() {
	for _, in := range s.intakes {
		if in != nil {
			in.close()
		}
	}
	for _, f := range s.forgetters {
		if f != nil {
			f.close()
		}
	}
	if s.cfg.Intake != nil {
		s.cfg.Intake.Close()
	}
	for _, p := range []*publisher{s.toDown, s.toDead} {
		if p != nil {
			p.close()
		}
	}
}

// leftovers tells of messages of Things that are not configured any more, and removes the consumers
// that such Things had. The messages stay for the day the Thing comes back.
func (s *Store) leftovers(ctx context.Context) error {
	queued := map[string]uint64{}
	for _, class := range mapping.Classes {
		held, _, err := s.held(ctx, class)
		if err != nil {
			return err
		}
		for token, n := range held {
			queued[token] += n
			if h := s.handovers[class]; h != nil {
				h.waiting(token, n)
			}
		}
		if err := s.tellHoles(ctx, class); err != nil {
			return err
		}
	}
	names := map[string]bool{}
	for _, t := range s.cfg.Things {
		delete(queued, mapping.Token(string(t)))
		names[consumerName(t)] = true
	}
	for token, n := range queued {
		name, err := mapping.Untoken(token)
		if err != nil {
			name = token
		}
		s.log.Warn("messages of a Thing that is not configured stay in the queue; add it again to send them, or remove them with nats stream purge",
			"thing", name, "messages", n)
	}
	for _, up := range s.up {
		list := up.ListConsumers(ctx)
		for info := range list.Info() {
			if info.Config.Metadata[metaOwner] == "" || names[info.Name] {
				continue
			}
			if err := up.DeleteConsumer(ctx, info.Name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
				return fmt.Errorf("stream %s: consumer %s: %w", up.CachedInfo().Config.Name, info.Name, err)
			}
		}
		if err := list.Err(); err != nil {
			return fmt.Errorf("stream %s: its consumers: %w", up.CachedInfo().Config.Name, err)
		}
	}
	return nil
}

// tellHoles finds out what a stream does not have between its first message and its last.
func (s *Store) tellHoles(ctx context.Context, class mapping.Class) error {
	h := s.handovers[class]
	if h == nil {
		return nil
	}
	name := s.up[class].CachedInfo().Config.Name
	stream, err := s.js.Stream(ctx, name)
	if err == nil {
		_, err = stream.Info(ctx, jetstream.WithDeletedDetails(true))
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	state := stream.CachedInfo().State
	h.told.begin(state.FirstSeq, state.LastSeq, state.Deleted)
	return nil
}

// Queued counts the messages that wait for the cloud, of every configured Thing.
func (s *Store) Queued(ctx context.Context) (map[mapping.Thing]uint64, error) {
	queued, err := s.queued(ctx)
	if err != nil {
		return nil, err
	}
	return ofThings(queued, *s.things.Load()), nil
}

// ofThings picks Things out of counts by token.
func ofThings(queued map[string]uint64, things []mapping.Thing) map[mapping.Thing]uint64 {
	out := make(map[mapping.Thing]uint64, len(things))
	for _, t := range things {
		out[t] = queued[mapping.Token(string(t))]
	}
	return out
}

// Accepted counts the messages that programs handed over since Open, and those that were waiting then.
// It is what has been delivered, was a duplicate, is dead or waits.
func (s *Store) Accepted(ctx context.Context) (uint64, error) {
	var n uint64
	for class, up := range s.up {
		own, err := s.js.Stream(ctx, up.CachedInfo().Config.Name)
		if err != nil {
			return 0, fmt.Errorf("stream %s: %w", up.CachedInfo().Config.Name, err)
		}
		n += own.CachedInfo().State.LastSeq - s.before[class]
	}
	return n, nil
}

// queued counts by the Thing's token. It looks whether something was stored past an intake, too.
func (s *Store) queued(ctx context.Context) (map[string]uint64, error) {
	out := map[string]uint64{}
	for _, class := range mapping.Classes {
		held, last, err := s.held(ctx, class)
		if err != nil {
			return nil, err
		}
		for token, n := range held {
			out[token] += n
		}
		if h := s.handovers[class]; h != nil && last > h.known() {
			signal(h.gap)
		}
	}
	return out, nil
}

func (s *Store) held(ctx context.Context, class mapping.Class) (held map[string]uint64, last uint64, err error) {
	return heldBy(ctx, s.js, s.up[class].CachedInfo().Config.Name, s.cfg.Subjects.Space(mapping.SpaceUp))
}

// heldBy counts what a stream holds, by the Thing's token. last was the sequence of its last message before the
// count.
func heldBy(ctx context.Context, js jetstream.JetStream, name, space string) (held map[string]uint64, last uint64, err error) {
	// A handle of one's own: Info writes into it.
	own, err := js.Stream(ctx, name)
	if err != nil {
		return nil, 0, fmt.Errorf("stream %s: %w", name, err)
	}
	last = own.CachedInfo().State.LastSeq
	info, err := own.Info(ctx, jetstream.WithSubjectFilter(space))
	if err != nil {
		return nil, 0, fmt.Errorf("stream %s: %w", name, err)
	}
	held = map[string]uint64{}
	for subject, n := range info.State.Subjects {
		held[thingToken(subject, space)] += n
	}
	return held, last, nil
}

// thingToken is the first token after a space's, given as "fleets.up.>".
func thingToken(subject, space string) string {
	rest := subject[min(len(space)-1, len(subject)):]
	for i := range len(rest) {
		if rest[i] == '.' {
			return rest[:i]
		}
	}
	return rest
}

// The buckets.

func (s *Store) bucket(name string) bridge.Bucket { return s.buckets[s.cfg.Subjects.Name(name)] }

// Shadow holds the last known shadow documents, key {t}.
func (s *Store) Shadow() bridge.Bucket { return s.bucket(bucketShadow) }

// Status holds the connections' status, key {t}; in memory.
func (s *Store) Status() bridge.Bucket { return s.bucket(bucketStatus) }

// Executions holds commands under way and answered; what is older than ExecutionTTL is forgotten.
func (s *Store) Executions() bridge.Bucket { return s.bucket(bucketExecutions) }

// Leases holds which worker has which job execution.
func (s *Store) Leases() bridge.Bucket { return s.bucket(bucketLeases) }

// Marks holds event clocks.
func (s *Store) Marks() bridge.Bucket { return s.bucket(bucketMarks) }

// Last is bridge.Archive on the down stream.
func (s *Store) Last(ctx context.Context, a mapping.Address) (bridge.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	subject := s.cfg.Subjects.Print(mapping.SpaceDown, a)
	raw, err := s.down.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return bridge.Message{}, bridge.ErrNotFound
	}
	if err != nil {
		return bridge.Message{}, fmt.Errorf("last message on %s: %w", subject, err)
	}
	return bridge.Message{
		Address: a, Payload: raw.Data, Trace: traceOf(raw.Header), Received: received(raw.Header, raw.Time),
		Origin: raw.Header.Get(HeaderTopic), Sequence: raw.Sequence, Source: raw.Header.Get(HeaderSource),
	}, nil
}

// Enqueue is bridge.Outbox: it returns when the message is stored with the programs' own, or at once
// with the error that every program would get, such as that of a full stream. After a time-out it is
// unknown whether the message is stored.
func (s *Store) Enqueue(ctx context.Context, a mapping.Address, payload []byte, t bridge.Trace) (bridge.Receipt, error) {
	m := nats.NewMsg(s.cfg.Subjects.Print(mapping.SpaceUp, a))
	m.Data = payload
	setTrace(m.Header, t)
	ack, err := s.js.PublishMsg(ctx, m, jetstream.WithMsgID(nuid.Next()))
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		return bridge.Receipt{}, fmt.Errorf("no stream takes %s", m.Subject)
	}
	if err != nil {
		return bridge.Receipt{}, fmt.Errorf("%s: %w", m.Subject, err)
	}
	return bridge.Receipt{Stream: ack.Stream, Sequence: ack.Sequence}, nil
}

// Pending tells whether a message for the address still waits for the cloud.
func (s *Store) Pending(ctx context.Context, a mapping.Address) (bool, error) {
	subject := s.cfg.Subjects.Print(mapping.SpaceUp, a)
	_, err := s.up[a.Route().Class].GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("last message on %s: %w", subject, err)
	}
	return true, nil
}
