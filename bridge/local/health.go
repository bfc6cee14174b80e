package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/ownership"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/internal/flow"
)

// ErrStreamGone says that a stream was removed, or that its server came back without it.
var ErrStreamGone = errors.New("the stream is gone")

// troubles is what keeps the store from taking or keeping messages now, by part: the one place that
// /readyz, the metrics and the status ask.
type troubles struct {
	moved chan struct{} // told when a part begins or ceases to work
	mu    sync.Mutex
	open  map[string]trouble // by part
}

type trouble struct {
	reason string
	until  time.Time // when it is over unless it is noted again; zero: when somebody says so
}

// noteFor is how long a failed write counts: whoever has to write tries again within seconds.
const noteFor = 30 * time.Second

// note says that a part does not work, or, with an empty reason, that it does. It reports whether that is news.
func (t *troubles) note(part, reason string) (changed bool) {
	return t.put(part, trouble{reason: reason})
}

func (t *troubles) put(part string, now trouble) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, was := t.open[part]
	if was != (now.reason != "") {
		flow.Signal(t.moved)
	}
	if now.reason == "" {
		delete(t.open, part)
		return was
	}
	if t.open == nil {
		t.open = map[string]trouble{}
	}
	t.open[part] = now
	return !was
}

// list returns the reasons, in the order of their parts' names.
func (t *troubles) list() (out []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, part := range slices.Sorted(maps.Keys(t.open)) {
		x := t.open[part]
		if !x.until.IsZero() && time.Now().After(x.until) {
			delete(t.open, part)
			continue
		}
		out = append(out, part+": "+x.reason)
	}
	return out
}

// wrote notes how a write into a bucket ended. A key that is there already, or not, is no trouble, nor is a value
// that NATS will never take, nor a caller who has left.
func (t *troubles) wrote(bucket string, err error) {
	switch {
	case err == nil:
		t.note("bucket "+bucket, "")
	case errors.Is(err, jetstream.ErrKeyExists), errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, nats.ErrMaxPayload), errors.Is(err, context.Canceled), errors.Is(err, ownership.ErrFenced):
	default:
		t.put("bucket "+bucket, trouble{err.Error(), time.Now().Add(noteFor)})
	}
}

// Troubles lists why messages can't be taken or kept now; empty: they can.
func (s *Store) Troubles() []string {
	if s.cfg.working().Err() != nil {
		return append(s.troubles.list(), "the disk has refused a write, and what comes from the cloud waits until it takes them again")
	}
	return s.troubles.list()
}

// names are the streams that have to be there, the buckets' too. The one in memory is not among them: it is
// made again when its server has lost it.
func (s *Store) names() []string {
	var out []string
	for _, want := range s.cfg.streams(s.nc.MaxPayload()) {
		out = append(out, want.Name)
	}
	for _, want := range s.cfg.buckets() {
		if want.Storage != jetstream.MemoryStorage {
			out = append(out, "KV_"+want.Bucket)
		}
	}
	if s.cfg.Shards > 0 {
		out = append(out, ownership.Stream(s.cfg.Subjects))
	}
	return out
}

// Moved tells that Check, Note, Queued or Troubles may have something new to say. With an external server, which others use
// and which may lose a part of itself, it does not: there one has to ask.
func (s *Store) Moved() <-chan struct{} { return s.troubles.moved }

// watchRemoved hears of streams that are removed from the embedded server.
func (s *Store) watchRemoved() error {
	if !s.cfg.Embedded {
		return nil
	}
	if _, err := s.nc.Subscribe(server.JSAdvisoryStreamDeletedPre+".*", func(*nats.Msg) { flow.Signal(s.troubles.moved) }); err != nil {
		return fmt.Errorf("subscribing to what is said of removed streams: %w", err)
	}
	return nil
}

// Check looks whether every stream is there, has a leader and takes messages, and notes what it finds for
// Troubles. It returns ErrStreamGone when a stream was missing twice in a row: the bridge can't go on as if
// nothing had happened, and the next start makes the stream anew.
func (s *Store) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, streams.AnswerTime)
	defer cancel()
	for _, name := range s.names() {
		stream, err := s.js.Stream(ctx, name)
		if s.cfg.working().Err() != nil || context.Cause(ctx) == context.Canceled {
			return nil // JetStream stops or is stopped, which is known
		}
		if err != nil {
			return s.lost(name, err)
		}
		is := stream.CachedInfo()
		if s.lanes != nil {
			s.lanes.look(is.Config)
		}
		s.found("stream "+name, cmp.Or(unled(is.Cluster), s.full(is)))
	}
	s.missing = ""
	s.found(partStreams, "")
	return nil
}

// found notes what Check has found, with a line in the log when it changes.
func (s *Store) found(part, reason string) {
	switch changed := s.troubles.note(part, reason); {
	case changed && reason == "":
		s.log.Info("the store works again", "part", part)
	case changed:
		s.log.Warn("the store does not work", "part", part, "error", reason)
	}
}

// partStreams stands for all streams while one of them can't be asked.
const (
	partStreams = "streams"
	partDisk    = "disk"
)

func (t *troubles) has(part string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, is := t.open[part]
	return is
}

// lost notes that a stream can't be asked.
func (s *Store) lost(name string, err error) error {
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		s.missing = ""
		s.found(partStreams, fmt.Sprintf("stream %s does not answer: %v", name, err))
		return nil
	}
	s.found(partStreams, fmt.Sprintf("stream %s is gone", name))
	if s.missing != name {
		s.missing = name
		return nil
	}
	return fmt.Errorf("stream %s: %w: it was removed, or the NATS server came back without its store; what it held is lost; start the bridge again, which makes it anew",
		name, ErrStreamGone)
}

// unled says that the servers of a cluster can't write a stream now; empty: they can, or it is one server's.
func unled(c *jetstream.ClusterInfo) string {
	if c == nil {
		return ""
	}
	if c.Leader == "" {
		return "it has no leader: too few servers of the cluster are there"
	}
	there, all := 1, 1+len(c.Replicas)
	for _, r := range c.Replicas {
		if !r.Offline {
			there++
		}
	}
	if 2*there <= all {
		return fmt.Sprintf("it has no quorum: %d of the %d servers that hold it are there", there, all)
	}
	return ""
}

// full says that a stream takes no more; empty: it does. One that forgets the oldest is never full, and while the
// disk is full that is said instead.
func (s *Store) full(is *jetstream.StreamInfo) string {
	limit := is.Config.MaxBytes
	if is.Config.Discard != jetstream.DiscardNew || limit <= 0 || s.troubles.has(partDisk) {
		return ""
	}
	spare := min(int64(is.Config.MaxMsgSize), limit/20)
	if int64(is.State.Bytes)+max(spare, 1) <= limit {
		return ""
	}
	return fullText(is.State.Bytes, limit)
}

func fullText(bytes uint64, limit int64) string {
	return fmt.Sprintf("it is full and takes no more, %d of %d bytes: publishers get errors until the broker has taken some of what waits; raise nats.up.max_bytes if that is often so", bytes, limit)
}
