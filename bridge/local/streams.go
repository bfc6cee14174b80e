package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

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
			MaxBytes: unlimited(c.Up), // and no MaxAge: the core gives up what is too old, into the dead letters
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
		MaxBytes: unlimited(l.MaxBytes), MaxAge: l.MaxAge,
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

func unlimited(n int64) int64 {
	if n <= 0 {
		return -1
	}
	return n
}

// ensureStream creates the stream or brings it up to date. What a stream holds is never given up for
// that: one that can't be updated is an error that says what to do.
func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	have, err := js.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		have, err = js.CreateStream(ctx, want)
	case err != nil:
		return nil, fmt.Errorf("stream %s: %w", want.Name, err)
	default:
		is := have.CachedInfo().Config
		if want.RePublish == nil { // an up stream, which somebody may be taking from
			want.RePublish = is.RePublish
			if is.Retention == jetstream.WorkQueuePolicy { // an older version made it. No server changes that, and without a consumer there is no difference
				want.Retention = is.Retention
			}
		}
		want.MaxConsumers = is.MaxConsumers // which not every server changes
		if err := fits(is, want); err != nil {
			return nil, err
		}
		have, err = js.UpdateStream(ctx, want)
	}
	if err != nil {
		return nil, explain(ctx, js, want, err)
	}
	return have, kept(have.CachedInfo().Config, want)
}

// ensureBucket is ensureStream for a KV bucket. What the server or the account can't do is taken out of want.
func ensureBucket(ctx context.Context, js jetstream.JetStream, want *jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	stream := jetstream.StreamConfig{Name: "KV_" + want.Bucket, Storage: want.Storage, Replicas: want.Replicas}
	have, err := js.Stream(ctx, stream.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
	case err != nil:
		return nil, fmt.Errorf("bucket %s: %w", want.Bucket, err)
	default:
		if err := fits(have.CachedInfo().Config, stream); err != nil {
			return nil, err
		}
	}
	kv, err := js.CreateOrUpdateKeyValue(ctx, *want)
	if wire.APICode(err) == codeBytesRequired { // as hosted accounts do
		want.MaxBytes = bucketBytes
		kv, err = js.CreateOrUpdateKeyValue(ctx, *want)
	}
	if errors.Is(err, jetstream.ErrLimitMarkerTTLNotSupported) { // before 2.11; then who watches is not told
		want.LimitMarkerTTL = 0
		kv, err = js.CreateOrUpdateKeyValue(ctx, *want)
	}
	if want.Storage == jetstream.MemoryStorage && noMemory(err) {
		want.Storage = jetstream.FileStorage
		kv, err = js.CreateOrUpdateKeyValue(ctx, *want)
	}
	if err != nil {
		stream.Subjects = []string{"$KV." + want.Bucket + ".>"}
		return nil, explain(ctx, js, stream, err)
	}
	return kv, nil
}

// fits compares what no update can change.
func fits(have, want jetstream.StreamConfig) error {
	for _, f := range []struct {
		name       string
		have, want any
	}{
		{"retention", have.Retention, want.Retention},
		{"storage", have.Storage, want.Storage},
		{"mirror", have.Mirror != nil, false},
		{"sealed", have.Sealed, false},
	} {
		if f.have != f.want {
			return fmt.Errorf("stream %s: %s is %v, but must be %v and can't be changed; empty it and remove it (nats stream rm %s), or set nats.prefix to another name",
				want.Name, f.name, f.have, f.want, want.Name)
		}
	}
	return nil
}

// kept makes sure that the server understood the configuration.
func kept(have, want jetstream.StreamConfig) error {
	if want.SubjectTransform != nil && have.SubjectTransform == nil {
		return fmt.Errorf("stream %s: the server has no subject transforms; use NATS 2.12 or later", want.Name)
	}
	return nil
}

// Error codes of the JetStream API that have a mend.
const (
	codeReplicas      = 10074
	codeOverlap       = 10065
	codeResources     = 10023
	codeStorage       = 10047
	codeBytesRequired = 10113
	codeMemory        = 10028
	codeTierLimits    = 10120
)

// explain names the mend of an error of the API, as far as it is known.
func explain(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, err error) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return fmt.Errorf("stream %s: %w", want.Name, err)
	}
	switch api.ErrorCode {
	case codeReplicas, wire.CodeNoPeers:
		return fmt.Errorf("stream %s: replicas is %d, which this server or cluster can't hold (%w); set nats.replicas to 1, or to at most the number of servers",
			want.Name, want.Replicas, api)
	case codeOverlap:
		subject, other := captor(ctx, js, want)
		return fmt.Errorf("stream %s: subject %s is captured by stream %s already; remove it from there, or set nats.prefix to another name",
			want.Name, subject, other)
	case codeResources, codeStorage:
		return fmt.Errorf("stream %s: max_bytes %d is more than the server allows (%s); lower nats.up.max_bytes or nats.down.max_bytes, or raise the server's limit",
			want.Name, want.MaxBytes, api.Description)
	case codeBytesRequired:
		return fmt.Errorf("stream %s: the account wants a limit (%s); set nats.up.max_bytes and nats.down.max_bytes", want.Name, api.Description)
	}
	return fmt.Errorf("stream %s: %w", want.Name, err)
}

// noMemory tells that an account may not keep streams in memory. The code for that is the one of a full account, too.
func noMemory(err error) bool {
	switch wire.APICode(err) {
	case codeMemory, codeResources, codeStorage, codeTierLimits:
		return true
	}
	return false
}

// bucketBytes is what a bucket may hold where the account wants a limit; a record is a few KiB at most.
const bucketBytes = 64 << 20

// captor finds another stream that has one of the subjects.
func captor(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (subject, stream string) {
	for _, s := range want.Subjects {
		names := js.StreamNames(ctx, jetstream.WithStreamListSubject(s))
		for name := range names.Name() {
			if name != want.Name {
				return s, name
			}
		}
	}
	return strings.Join(want.Subjects, ", "), "(not visible from this account)"
}
