// Package streams makes and reads streams and buckets where the client library of NATS does too little: errors that name
// the mend, reads that the leader answers, or any replica that says how far it is, and groups that are stored together.
// It knows nothing of what the streams are for.
package streams

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/wire"
)

// Ensure creates the stream or brings it up to date. What a stream holds is never given up for
// that: one that can't be updated is an error that says what to do.
func Ensure(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
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
		return nil, Explain(ctx, js, want, err)
	}
	return have, kept(have.CachedInfo().Config, want)
}

// EnsureBucket is Ensure for a KV bucket. What the server or the account can't do is taken out of want.
func EnsureBucket(ctx context.Context, js jetstream.JetStream, want *jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
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
		want.MaxBytes = BucketBytes
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
		return nil, Explain(ctx, js, stream, err)
	}
	return kv, nil
}

// BucketBytes is what a bucket may hold where the account wants a limit; a record is a few KiB at most.
const BucketBytes = 64 << 20

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

// Explain names the mend of an error of the API, as far as it is known.
func Explain(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, err error) error {
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

// Unlimited is a limit as a stream's configuration spells it, where none is -1.
func Unlimited(n int64) int64 {
	if n <= 0 {
		return -1
	}
	return n
}
