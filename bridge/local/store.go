package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/ownership"
	"fleetbridge/bridge/local/salvage"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Store is all that is kept in NATS: streams and buckets.
type Store struct {
	cfg     StoreConfig
	nc      *nats.Conn
	js      jetstream.JetStream
	log     *slog.Logger
	things  atomic.Pointer[[]mapping.Thing] // that can be published for
	down    jetstream.Stream
	buckets map[string]*bucket
	shares  *shares // of the dead letters
	custody *custody

	troubles troubles
	missing  string // the stream that Check did not find the last time; of Check's goroutine

	spool   *Spool   // nil with an external server
	history *history // of what came down; nil with an external server
	remote
}

// remote is what a store has only with an external server. With the embedded one the spool does this.
type remote struct {
	up             [len(mapping.Classes)]upStream
	shaping        sync.Mutex // held while the configuration of one of them changes
	lanes          *streamLanes
	toDown, toDead *publisher       // toDown is nil in a cluster; see Share
	replies        jetstream.Stream // of handlers, in a cluster; else nil
	replyRoom      *replyRoom       // nil without replies
}

// upStream is what programs publish into, of one class.
type upStream struct {
	jetstream.Stream
	before uint64 // how many messages had come and gone when the store was opened
	sieve  sieve  // of Sift's goroutine
}

// name is the stream's.
func (u *upStream) name() string { return u.CachedInfo().Config.Name }

// openTries is how often a store is opened whose server has to start JetStream again meanwhile.
const openTries = 5

// Open creates what is missing, brings up to date what can be, and fails with the mend when something
// is there that doesn't fit. What an earlier configuration left in the queues stays there. Of a damaged bucket what can
// be read is kept; JetStream that had to start again is waited for.
func Open(ctx context.Context, nc *nats.Conn, cfg StoreConfig, log *slog.Logger) (*Store, error) {
	if len(cfg.Things) == 0 && cfg.Embedded {
		return nil, errors.New("things is empty, name at least one")
	}
	for try := 1; ; try++ {
		era := cfg.working()
		s, err := open(ctx, nc, cfg, log)
		if err == nil || era.Err() == nil || try == openTries || ctx.Err() != nil {
			return s, err
		}
		log.Warn("opening the store failed, as JetStream had to start again; it is tried again", "error", err)
		if err := cfg.untilWorking(ctx, nc); err != nil {
			return nil, err
		}
	}
}

func open(ctx context.Context, nc *nats.Conn, cfg StoreConfig, log *slog.Logger) (*Store, error) {
	js, err := wire.JetStream(nc)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, nc: nc, js: js, log: log, buckets: map[string]*bucket{}}
	s.troubles.moved = make(chan struct{}, 1)
	s.things.Store(&cfg.Things)
	if cfg.Embedded { // nobody else is on the server yet
		if err := cfg.salvageBuckets(ctx, js, log); err != nil {
			return nil, err
		}
	}
	if s.custody, err = loadCustody(ctx, js, cfg.Subjects.Name(wire.BucketMarks), log); err != nil {
		return nil, err
	}
	dead, err := s.openStreams(ctx)
	if err == nil {
		err = s.openBuckets(ctx)
	}
	if err != nil {
		return nil, err
	}
	if !cfg.Embedded {
		s.lanes = newStreamLanes(s)
		if err := s.leftovers(ctx); err != nil {
			return nil, err
		}
	}
	if cfg.Shards > 0 {
		if err := s.lanes.begin(ctx); err != nil {
			s.lanes.close()
			return nil, err
		}
	}
	if err := s.Note(ctx, false); err != nil { // from now on the last stop does not speak for what is there
		return nil, err
	}
	if cfg.Embedded {
		s.history = newHistory(s.down, s.subjectMemory, log)
	} else {
		if cfg.Shards == 0 {
			s.toDown = s.publisher("down", s.down, nil)
		}
		s.toDead = s.publisher("dead letters", dead, nil)
	}
	if err := s.watchRemoved(); err != nil {
		return nil, err
	}
	if s.shares, err = s.newShares(ctx, dead); err != nil {
		s.Close()
		return nil, err
	}
	if !cfg.Embedded { // else the stream may lack some still; see viewsOpened
		s.shares.count(ctx)
	}
	if s.replies != nil {
		if s.replyRoom, err = s.openReplyRoom(ctx); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// salvageBuckets makes the buckets whole that are there. Nobody else may use them meanwhile.
func (c StoreConfig) salvageBuckets(ctx context.Context, js jetstream.JetStream, log *slog.Logger) error {
	for _, want := range c.allBuckets() {
		if want.Storage == jetstream.MemoryStorage {
			continue
		}
		err := salvage.Bucket(ctx, js, "KV_"+want.Bucket, log)
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("bucket %s: %w", want.Bucket, err)
		}
	}
	return nil
}

// openStreams sees to the streams, tells what is missing of them, and returns the one of dead letters.
func (s *Store) openStreams(ctx context.Context) (dead jetstream.Stream, err error) {
	opened := map[string]jetstream.Stream{}
	for _, want := range s.cfg.streams(s.nc.MaxPayload()) {
		stream, err := streams.Ensure(ctx, s.js, want)
		if err == nil && !s.cfg.Embedded { // else the journal may have what the stream lacks
			err = s.custody.compare(ctx, stream)
		}
		if err != nil {
			return nil, err
		}
		opened[want.Name] = stream
	}
	for _, class := range mapping.Classes {
		up := opened[s.cfg.Subjects.Name(wire.UpStream(class))]
		if up == nil {
			continue
		}
		state := up.CachedInfo().State
		s.up[class].before = state.LastSeq - state.Msgs
		if s.up[class].Stream, err = s.decisive(ctx, up.CachedInfo().Config.Name); err != nil {
			return nil, err
		}
	}
	if s.down, err = s.decisive(ctx, s.cfg.Subjects.Name(wire.StreamDown)); err != nil {
		return nil, err
	}
	if s.replies = opened[s.cfg.Subjects.Name(wire.StreamReplies)]; s.replies != nil {
		s.replies.CachedInfo().Config.AllowDirect = false // what is read decides
	}
	return opened[s.cfg.Subjects.Name(wire.StreamDead)], nil
}

func (s *Store) openBuckets(ctx context.Context) error {
	for _, want := range s.cfg.buckets() {
		kv, err := streams.EnsureBucket(ctx, s.js, &want)
		if err != nil {
			return err
		}
		b := &bucket{kv: kv, js: s.js, config: want, troubles: &s.troubles}
		if s.cfg.replicas() > 1 {
			if b.leader, err = s.decisive(ctx, "KV_"+want.Bucket); err != nil {
				return err
			}
		}
		s.buckets[want.Bucket] = b
		if want.Bucket == s.cfg.Subjects.Name(wire.BucketMarks) {
			s.custody.kv = kv
		}
	}
	for _, b := range s.buckets {
		if b.config.Storage != jetstream.MemoryStorage {
			continue
		}
		b.made = s.renumber
		if err := s.renumber(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// decisive is a handle of a stream whose gets are answered by the leader where there are replicas: one of those may
// lag behind what was acknowledged, and what is read there decides, such as whether a command was run. The library
// asks whoever is nearest if the stream allows that, as its cached configuration says.
func (s *Store) decisive(ctx context.Context, name string) (jetstream.Stream, error) {
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	if s.cfg.replicas() > 1 {
		stream.CachedInfo().Config.AllowDirect = false
	}
	return stream, nil
}

// publisher makes one whose failures count as the store's.
func (s *Store) publisher(what string, stream jetstream.Stream, f *ownership.Fence) *publisher {
	batches := stream.CachedInfo().Config.AllowAtomicPublish // the server knows them: 2.12 and later
	p := newPublisher(s.nc, what, batches, f, s.log)
	p.tries.note = func(reason string) { s.troubles.note(what, reason) }
	return p
}

// Close stops the publishers. What they have not stored is dropped, and its done is not called; so the pumps are stopped
// first. The connection stays open.
func (s *Store) Close() {
	s.history.close()
	s.replyRoom.close()
	if s.lanes != nil {
		s.lanes.close()
	}
	for _, p := range []*publisher{s.toDown, s.toDead} {
		if p != nil {
			p.close()
		}
	}
}

// The buckets.

func (s *Store) bucket(name string) *bucket { return s.buckets[s.cfg.Subjects.Name(name)] }

// Shadow holds the last known shadow documents, key {t}.
func (s *Store) Shadow() bridge.ShadowView {
	if s.spool != nil {
		return s.spool.shadows
	}
	return s.bucket(wire.BucketShadow)
}

// Status holds the connections' status, key {t}; in memory.
func (s *Store) Status() bridge.StatusView { return s.bucket(wire.BucketStatus) }

// Replies is the stream that keeps what handlers reply, in a cluster; else nil.
func (s *Store) Replies() jetstream.Stream { return s.replies }

// state is in the spool's journal with the embedded server, and else in a bucket.
func (s *Store) state(name string) bridge.State {
	if s.spool != nil {
		return s.spool.records[name]
	}
	return s.bucket(name)
}

// Executions holds commands under way and answered; what is older than ExecutionTTL is forgotten.
func (s *Store) Executions() bridge.State { return s.state(wire.BucketExecutions) }

// Leases holds which worker has which job execution.
func (s *Store) Leases() bridge.State { return s.state(wire.BucketLeases) }

// Marks holds event clocks, and what sessions are subscribed to.
func (s *Store) Marks() bridge.State { return s.state(wire.BucketMarks) }

// Last is bridge.Archive on the down stream.
func (s *Store) Last(ctx context.Context, a mapping.Address) (bridge.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.AnswerTime)
	defer cancel()
	if s.spool != nil {
		if err := s.spool.views.caughtUp(ctx); err != nil {
			return bridge.Message{}, err
		}
	}
	return s.lastOf(a, func(subject string) (*jetstream.RawStreamMsg, error) {
		return s.down.GetLastMsgForSubject(ctx, subject)
	})
}

// lastOf reads the last message from the cloud of an address.
func (s *Store) lastOf(a mapping.Address, read func(subject string) (*jetstream.RawStreamMsg, error)) (bridge.Message, error) {
	subject := s.cfg.Subjects.Print(mapping.SpaceDown, a)
	raw, err := read(subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return bridge.Message{}, bridge.ErrNotFound
	}
	if err != nil {
		return bridge.Message{}, fmt.Errorf("last message on %s: %w", subject, err)
	}
	return bridge.Message{
		Address: a, Payload: raw.Data, Trace: wire.TraceOf(raw.Header), Received: wire.Received(raw.Header, raw.Time),
		Origin: wire.TextOf(raw.Header.Get(wire.HeaderTopic)), Sequence: raw.Sequence, Source: wire.TextOf(raw.Header.Get(wire.HeaderSource)),
	}, nil
}

// Enqueue is bridge.Outbox: it returns when the message is stored with the programs' own, or at once
// with the error that every program would get, such as that of a full stream. After a time-out it is
// unknown whether the message is stored.
func (s *Store) Enqueue(ctx context.Context, a mapping.Address, payload []byte, t bridge.Trace) (bridge.Receipt, error) {
	m := nats.NewMsg(s.cfg.Subjects.Print(mapping.SpaceUp, a))
	m.Data = payload
	wire.SetTrace(m.Header, t)
	var ack *jetstream.PubAck
	id := jetstream.WithMsgID(nuid.Next())
	err := streams.Again(ctx, func(ctx context.Context) (err error) {
		if ack, err = s.js.PublishMsg(ctx, m, id); wire.APICode(err) == wire.CodeInProcess { // the try before
			<-ctx.Done()
			err = ctx.Err()
		}
		return err
	})
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		return bridge.Receipt{}, fmt.Errorf("no stream takes %s", m.Subject)
	}
	if err != nil {
		return bridge.Receipt{}, fmt.Errorf("%s: %w", m.Subject, err)
	}
	return bridge.Receipt{Stream: ack.Stream, Sequence: ack.Sequence}, nil
}

// Pending is bridge.Outbox.
func (s *Store) Pending(ctx context.Context, a mapping.Address) (bool, error) {
	subject := s.cfg.Subjects.Print(mapping.SpaceUp, a)
	err := streams.Again(ctx, func(ctx context.Context) error {
		_, err := streams.Get(ctx, s.nc, s.up[a.Route().Class()].name(), streams.Ask{Last: subject})
		return err
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("last message on %s: %w", subject, err)
	}
	return true, nil
}
