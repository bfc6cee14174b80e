package local

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Limits bound a stream. 0 is no limit.
type Limits struct {
	MaxBytes int64
	MaxAge   time.Duration
}

// maxListed is for how many Things the up streams list the subjects, so that what is published for another is refused at
// once. A server compares each subject of a stream with each other one: 0.3 s for 1,000 Things, half a minute for 10,000.
// With more the streams take the subjects of all Things.
const maxListed = 1000

// duplicates is how long a stream remembers message ids: programs may set Nats-Msg-Id, and so does the
// bridge, lest a retry after a lost PubAck is stored twice.
const duplicates = 2 * time.Minute

// streams lists what must be there, most basic first.
func (c StoreConfig) streams(maxPayload int64) []jetstream.StreamConfig {
	var out []jetstream.StreamConfig
	for _, class := range mapping.Classes {
		if c.Embedded {
			break
		}
		out = append(out, jetstream.StreamConfig{
			Name:        c.Subjects.Name(wire.UpStream(class)),
			Description: "what programs published and the cloud has not acknowledged: " + class.String(),
			Subjects:    upSubjects(c.Subjects, c.Things, class),
			Retention:   jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
			MaxBytes: streams.Unlimited(c.Up), // and no MaxAge: the core gives up what is too old, into the dead letters
			// The rest of what the server takes is for the headers of the dead letter.
			MaxMsgSize:  int32(max(maxPayload-wire.Headroom, maxPayload/2)),
			AllowDirect: true,
		})
	}
	out = append(out, c.mirrored(wire.StreamDown, string(mapping.SpaceDown), "what the cloud sent", c.Down),
		c.mirrored(wire.StreamDead, wire.SpaceDead, "dead letters", Limits{MaxBytes: c.Up}))
	if c.Shards > 0 {
		down := &out[len(out)-2]
		down.Subjects = append(down.Subjects, downMarker(c.Subjects, "*"))
		out = append(out, jetstream.StreamConfig{
			Name: c.Subjects.Name(wire.StreamReplies), Description: "what programs replied to commands, for the bridge that takes over",
			Subjects: []string{wire.ReplySpace(c.Subjects) + ">"}, Retention: jetstream.LimitsPolicy,
			Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxMsgsPerSubject: 1, // the first reply counts
			MaxBytes: repliesBytes, MaxAge: repliesAge, AllowDirect: true,
		})
	}
	for i := range out {
		out[i].Storage, out[i].Replicas, out[i].Duplicates = jetstream.FileStorage, c.replicas(), duplicates
		if age := out[i].MaxAge; age > 0 {
			out[i].Duplicates = min(duplicates, age) // the server wants it so
		}
	}
	return out
}

// upSubjects is what the up stream of a class takes.
func upSubjects(s mapping.Subjects, things []mapping.Thing, class mapping.Class) []string {
	switch {
	case len(things) > maxListed:
		return s.EveryClass(class)
	case len(things) == 0: // a stream has a subject
		return []string{wire.Internal(s.Prefix()) + ".nothing." + class.String()}
	}
	return classSubjects(s, things, class)
}

// What replies to commands may take. A full stream forgets none: then replies reach only the bridge that called.
const (
	repliesBytes = 64 << 20
	repliesAge   = 24 * time.Hour
)

// downMarker is the subject of a shard's marker in the down stream, which programs don't see.
func downMarker(s mapping.Subjects, shard string) string {
	return "_" + s.Prefix() + ".epoch." + shard
}

// classSubjects lists what programs may publish in one class.
func classSubjects(s mapping.Subjects, things []mapping.Thing, class mapping.Class) (out []string) {
	for _, t := range things {
		out = append(out, s.Class(t, class)...)
	}
	return out
}

// mirrored is a stream that listens on an internal subject and stores and republishes under the public
// one.
func (c StoreConfig) mirrored(name, space, about string, l Limits) jetstream.StreamConfig {
	public := wire.MirroredSubject(c.Subjects, space)
	return jetstream.StreamConfig{
		Name: c.Subjects.Name(name), Description: about,
		Subjects:         []string{wire.Internal(public)},
		SubjectTransform: &jetstream.SubjectTransformConfig{Source: wire.Internal(public), Destination: public},
		RePublish:        &jetstream.RePublish{Source: public, Destination: public},
		Retention:        jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxBytes: streams.Unlimited(l.MaxBytes), MaxAge: l.MaxAge,
		AllowDirect: true, AllowAtomicPublish: !c.Embedded,
	}
}

// StatusLife is how long a status stays on an external server that is not written again: nobody else would take back what
// a bridge that is gone has said last. Who watches is told by a mark. The embedded server goes with its bridge.
const StatusLife = time.Minute

// statusMark is how long that mark stays. A client that does not know marks takes it for an empty value meanwhile.
const statusMark = 10 * time.Second

// buckets lists the KV buckets. With the embedded server a spool has what only the bridge needs; see records.
func (c StoreConfig) buckets() []jetstream.KeyValueConfig {
	return slices.DeleteFunc(c.allBuckets(), func(b jetstream.KeyValueConfig) bool {
		return c.Embedded && (b.Bucket == c.Subjects.Name(wire.BucketExecutions) || b.Bucket == c.Subjects.Name(wire.BucketLeases))
	})
}

// allBuckets are those that a version before the journal had with the embedded server, too.
func (c StoreConfig) allBuckets() []jetstream.KeyValueConfig {
	out := []jetstream.KeyValueConfig{
		{Bucket: wire.BucketShadow, Description: "last known shadow documents"},
		{Bucket: wire.BucketStatus, Description: "connection status", Storage: jetstream.MemoryStorage},
		{Bucket: wire.BucketExecutions, Description: "commands under way and answered", TTL: c.executionTTL()},
		{Bucket: wire.BucketLeases, Description: "which worker has which job"},
		{Bucket: wire.BucketMarks, Description: "how far the streams had come, and event clocks"},
	}
	for i := range out {
		out[i].Bucket = c.Subjects.Name(out[i].Bucket)
		out[i].History, out[i].Replicas = 1, c.replicas()
		if !c.Embedded && out[i].Storage == jetstream.MemoryStorage {
			out[i].TTL, out[i].LimitMarkerTTL = StatusLife, statusMark
		}
	}
	return out
}

// SetThings changes the Things that can be published for. What the streams hold
// of others stays there. After an error some streams may have changed: the same call, or one with the
// Things of before, puts that right.
func (s *Store) SetThings(ctx context.Context, things []mapping.Thing) error {
	for _, class := range mapping.Classes {
		public := upSubjects(s.cfg.Subjects, things, class)
		if err := s.reshape(ctx, class, func(is *jetstream.StreamInfo) { is.Config.Subjects = public }); err != nil {
			return err
		}
	}
	things = slices.Clone(things)
	s.things.Store(&things)
	return nil
}

// reshape changes the configuration of a class's stream, as it is now: what others have changed stays.
func (s *Store) reshape(ctx context.Context, class mapping.Class, edit func(*jetstream.StreamInfo)) error {
	s.shaping.Lock()
	defer s.shaping.Unlock()
	name := s.up[class].name()
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	info := stream.CachedInfo()
	was := info.Config
	if edit(info); reflect.DeepEqual(info.Config, was) {
		return nil
	}
	if _, err := s.js.UpdateStream(ctx, info.Config); err != nil {
		return streams.Explain(ctx, s.js, info.Config, err)
	}
	return nil
}

// Left counts the messages that wait for Things that need not be configured any more.
func (s *Store) Left(ctx context.Context, things []mapping.Thing) (map[mapping.Thing]uint64, error) {
	queued, err := s.queued(ctx)
	if err != nil {
		return nil, err
	}
	return ofThings(queued, things), nil
}

// StoreConfig says what the streams hold and how much.
type StoreConfig struct {
	Subjects mapping.Subjects
	Things   []mapping.Thing // only they can be published for; at least one with the embedded server
	Replicas int             // 0: 1
	Up       int64           // bytes of each class that may wait, and that of dead letters; 0: no limit
	Down     Limits
	// Embedded: the server ends with this process. What programs publish is kept by a Spool, not in streams.
	Embedded bool
	// Working is the server's, if it is embedded; nil: it always works.
	Working func() context.Context
	// Shards is into how many the Things are divided that several bridges share; 0: there is no other bridge. What belongs
	// to a Thing is written by a Share then, and not by the store itself.
	Shards       int
	Window       int           // how many deliveries of a lane may be unsettled; 0: 4096
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
		return feedMessages
	}
	return c.Window
}

func (c StoreConfig) executionTTL() time.Duration {
	if c.ExecutionTTL <= 0 {
		return 168 * time.Hour
	}
	return c.ExecutionTTL
}

// untilWorking returns when JetStream has started again and is reached.
func (c StoreConfig) untilWorking(ctx context.Context, nc *nats.Conn) error {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for c.working().Err() != nil || !nc.IsConnected() {
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
