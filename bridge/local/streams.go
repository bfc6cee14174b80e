package local

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/mapping"
)

// Streams and buckets, by what follows the prefix in their names.
const (
	streamUpControl   = "UP_CONTROL"
	streamUpTelemetry = "UP_TELEMETRY"
	streamDown        = "DOWN"
	streamDead        = "DEAD"

	bucketShadow     = "SHADOW"
	bucketStatus     = "STATUS"
	bucketExecutions = "EXECUTIONS"
	bucketLeases     = "LEASES"
	bucketMarks      = "MARKS"
)

// Limits bound a stream. 0 is no limit.
type Limits struct {
	MaxBytes int64
	MaxAge   time.Duration
}

func upStream(c mapping.Class) string {
	if c == mapping.Control {
		return streamUpControl
	}
	return streamUpTelemetry
}

// duplicates is how long a stream remembers message ids: programs may set Nats-Msg-Id, and so does the
// bridge, lest a retry after a lost PubAck is stored twice.
const duplicates = 2 * time.Minute

// streams lists what must be there, most basic first.
func (c StoreConfig) streams(maxPayload int64) []jetstream.StreamConfig {
	var out []jetstream.StreamConfig
	for _, class := range mapping.Classes {
		s := jetstream.StreamConfig{
			Name:        c.Subjects.Name(upStream(class)),
			Description: "what programs published and the cloud has not acknowledged: " + class.String(),
			Retention:   jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
			MaxBytes: unlimited(c.Up), // and no MaxAge: the core gives up what is too old, into the dead letters
			// The rest of what the server takes is for the headers of the dead letter.
			MaxMsgSize: int32(max(maxPayload-headroom, maxPayload/2)),
		}
		if class == mapping.Telemetry && c.Relaxed {
			s.PersistMode = jetstream.AsyncPersistMode
		}
		s.Subjects = classSubjects(c.Subjects, c.Things, class)
		if c.Intake != nil { // which takes for these Things only
			public := c.Subjects.Space(mapping.SpaceUp)
			s.Subjects = internals(c.Subjects.EveryClass(class))
			s.SubjectTransform = &jetstream.SubjectTransformConfig{Source: internal(public), Destination: public}
			s.AllowAtomicPublish = batchable(s.PersistMode)
		}
		out = append(out, s)
	}
	out = append(out, c.mirrored(streamDown, string(mapping.SpaceDown), "what the cloud sent", c.Down),
		c.mirrored(streamDead, "dead", "dead letters", Limits{MaxBytes: c.Up}))
	for i := range out {
		out[i].Storage, out[i].Replicas, out[i].Duplicates = jetstream.FileStorage, c.replicas(), duplicates
		if age := out[i].MaxAge; age > 0 {
			out[i].Duplicates = min(duplicates, age) // the server wants it so
		}
	}
	return out
}

// batchable tells whether the server takes atomic batches for a stream of this mode.
func batchable(m jetstream.PersistModeType) bool { return m != jetstream.AsyncPersistMode }

// classSubjects lists what programs may publish in one class.
func classSubjects(s mapping.Subjects, things []mapping.Thing, class mapping.Class) (out []string) {
	for _, t := range things {
		out = append(out, s.Class(t, class)...)
	}
	return out
}

// internal is the subject on which a stream takes from the bridge what it stores under the public one.
func internal(public string) string { return "_" + public }

func internals(public []string) []string {
	out := make([]string, len(public))
	for i, s := range public {
		out[i] = internal(s)
	}
	return out
}

// mirrored is a stream that listens on an internal subject and stores and republishes under the public
// one.
func (c StoreConfig) mirrored(name, space, about string, l Limits) jetstream.StreamConfig {
	public := c.Subjects.Prefix() + "." + space + ".>"
	return jetstream.StreamConfig{
		Name: c.Subjects.Name(name), Description: about,
		Subjects:         []string{internal(public)},
		SubjectTransform: &jetstream.SubjectTransformConfig{Source: internal(public), Destination: public},
		RePublish:        &jetstream.RePublish{Source: public, Destination: public},
		Retention:        jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxBytes: unlimited(l.MaxBytes), MaxAge: l.MaxAge,
		AllowDirect: true, AllowAtomicPublish: true,
	}
}

// buckets lists the KV buckets.
func (c StoreConfig) buckets() []jetstream.KeyValueConfig {
	out := []jetstream.KeyValueConfig{
		{Bucket: bucketShadow, Description: "last known shadow documents"},
		{Bucket: bucketStatus, Description: "connection status", Storage: jetstream.MemoryStorage},
		{Bucket: bucketExecutions, Description: "commands under way and answered", TTL: c.executionTTL()},
		{Bucket: bucketLeases, Description: "which worker has which job"},
		{Bucket: bucketMarks, Description: "event clocks, and how far the streams had come"},
	}
	for i := range out {
		out[i].Bucket = c.Subjects.Name(out[i].Bucket)
		out[i].History, out[i].Replicas = 1, c.replicas()
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
func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, c *custody) (jetstream.Stream, error) {
	have, err := js.Stream(ctx, want.Name)
	if err == nil && have.CachedInfo().Config.PersistMode != want.PersistMode {
		have, err = changeMode(ctx, js, have, &want, c)
	}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		have, err = js.CreateStream(ctx, want)
	case err != nil:
		return nil, fmt.Errorf("stream %s: %w", want.Name, err)
	default:
		if err := fits(have.CachedInfo().Config, want); err != nil {
			return nil, err
		}
		have, err = js.UpdateStream(ctx, want)
	}
	if err != nil {
		return nil, explain(ctx, js, want, err)
	}
	return have, kept(have.CachedInfo().Config, want)
}

// changeMode makes a stream anew whose persist mode, which no update changes, is another than wanted:
// when it is empty. Else it stays as it is, and want becomes that.
func changeMode(ctx context.Context, js jetstream.JetStream, have jetstream.Stream, want *jetstream.StreamConfig, c *custody) (jetstream.Stream, error) {
	if n := have.CachedInfo().State.Msgs; n > 0 {
		c.log.Warn("nats.embedded.sync was changed, but the stream holds messages and keeps its mode; the first start with an empty queue changes it",
			"stream", want.Name, "messages", n, "persist_mode", have.CachedInfo().Config.PersistMode.String())
		want.PersistMode = have.CachedInfo().Config.PersistMode
		want.AllowAtomicPublish = want.SubjectTransform != nil && batchable(want.PersistMode)
		return have, nil
	}
	if err := js.DeleteStream(ctx, want.Name); err != nil {
		return nil, err
	}
	c.forget(want.Name)
	return nil, jetstream.ErrStreamNotFound
}

// ensureBucket is ensureStream for a KV bucket.
func ensureBucket(ctx context.Context, js jetstream.JetStream, want jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
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
	kv, err := js.CreateOrUpdateKeyValue(ctx, want)
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
	codeReplicas       = 10074
	codeOverlap        = 10065
	codeNoPeers        = 10005
	codeResources      = 10023
	codeStorage        = 10047
	codeNotUnique      = 10100
	codeTooLarge       = 10054
	codeBatchDuplicate = 10201
	codeBatchBroken    = 10176
)

// explain names the mend of an error of the API, as far as it is known.
func explain(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, err error) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return fmt.Errorf("stream %s: %w", want.Name, err)
	}
	switch api.ErrorCode {
	case codeReplicas, codeNoPeers:
		return fmt.Errorf("stream %s: replicas is %d, which this server or cluster can't hold (%s); set nats.replicas to 1, or to at most the number of servers",
			want.Name, want.Replicas, api.Description)
	case codeOverlap:
		subject, other := captor(ctx, js, want)
		return fmt.Errorf("stream %s: subject %s is captured by stream %s already; remove it from there, or set nats.prefix to another name",
			want.Name, subject, other)
	case codeResources, codeStorage:
		return fmt.Errorf("stream %s: max_bytes %d is more than the server allows (%s); lower nats.up.max_bytes or nats.down.max_bytes, or raise the server's limit",
			want.Name, want.MaxBytes, api.Description)
	}
	return fmt.Errorf("stream %s: %w", want.Name, err)
}

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

// apiCode is the error code of a JetStream error, or 0.
func apiCode(err error) jetstream.ErrorCode {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode
	}
	return 0
}

// newJetStream is the API of a connection, whose JetStream may live in a domain of its own.
func newJetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(apiTimeout))
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	return js, nil
}

// apiTimeout bounds a call whose context has no deadline; a slow disk may need seconds.
const apiTimeout = 20 * time.Second
