package salvage

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"fleetbridge/bridge/local/wire"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A bucket with a damaged record takes nothing more: to write a key the server removes what the key had, and what it
// can't read it can't remove. So what can be read is taken out, the bucket is emptied, which reads nothing, and what
// was taken out is put back. What can't be read is forgotten, and said. What was taken out is in a stream of its own
// meanwhile, so that nothing is lost when the process is killed: the next start goes on from there.

// maxLostKeys are named in the log.
const maxLostKeys = 10

// Bucket makes one bucket whole, by the name of its stream. Nobody else may use it meanwhile.
func Bucket(ctx context.Context, js jetstream.JetStream, name string, log *slog.Logger) error {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return err
	}
	saved := salvaged{js, name}
	before, err := saved.read(ctx)
	if err != nil {
		return err
	}
	whole, err := wholeBucket(ctx, stream)
	if err != nil || whole && len(before) == 0 {
		return errors.Join(err, saved.remove(ctx)) // what was not saved to the end is still in the bucket
	}
	if !whole {
		kept, lost, err := pick(ctx, stream)
		if err != nil || len(lost) == 0 && len(before) == 0 {
			return err
		}
		log.Error("records of a bucket are damaged on the disk; what they held is forgotten, the rest is kept",
			"bucket", strings.TrimPrefix(name, "KV_"), "keys_lost", len(lost), "keys_kept", len(kept), "lost", strings.Join(lost[:min(len(lost), maxLostKeys)], ", "))
		if err := saved.write(ctx, kept); err != nil {
			return err
		}
		if err := stream.Purge(ctx); err != nil {
			return err
		}
		before = append(kept, before...) // of two the first counts, which is newer
	}
	if err := putBack(ctx, js, before); err != nil {
		return err
	}
	return saved.remove(ctx)
}

// wholeBucket reports whether every record of the stream can be read, and the server knows of no others: of those that
// it found damaged it keeps the keys, and writing one of them never ends.
func wholeBucket(ctx context.Context, stream jetstream.Stream) (bool, error) {
	pending, read, err := wire.ScanHeads(ctx, stream, jetstream.DeliverAllPolicy, func(jetstream.Msg) {})
	if err != nil || read < pending {
		return false, err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return false, err
	}
	keys := uint64(0)
	for _, n := range info.State.Subjects {
		keys += n
	}
	return keys == info.State.Msgs && keys <= pending, nil // some may have expired meanwhile
}

// pick reads each key by itself. It has all in memory: shadow documents, marks and executions.
func pick(ctx context.Context, stream jetstream.Stream) (kept []*jetstream.RawStreamMsg, lost []string, err error) {
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return nil, nil, err
	}
	for subject := range info.State.Subjects {
		if len(subject) > wire.LongestSubject { // none of the bridge's, and no line could ask for it
			lost = append(lost, "(a key that is too long)")
			continue
		}
		m, err := stream.GetLastMsgForSubject(ctx, subject)
		switch {
		case err == nil:
			kept = append(kept, m)
		case wire.APICode(err) != 0: // the server has looked
			lost = append(lost, subject[strings.LastIndexByte(subject, '.')+1:])
		default:
			return nil, nil, err
		}
	}
	if len(kept)+len(lost) < int(info.State.Msgs) { // records of which the server does not know the key
		lost = append(lost, "(unknown)")
	}
	return kept, lost, nil
}

// putBack stores records under the keys that they had, but for keys that have one.
func putBack(ctx context.Context, js jetstream.JetStream, kept []*jetstream.RawStreamMsg) error {
	return publishAll(ctx, js, kept, func(m *nats.Msg) { m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0") })
}

// publishAll stores records as they were, under a changed subject or on a condition that some may not meet.
func publishAll(ctx context.Context, js jetstream.JetStream, records []*jetstream.RawStreamMsg, change func(*nats.Msg)) error {
	var acks []jetstream.PubAckFuture
	for _, r := range records {
		m := nats.NewMsg(r.Subject)
		m.Data = r.Data
		for _, key := range [...]string{wire.HeaderOperation, wire.HeaderNote} {
			if v := r.Header.Get(key); v != "" {
				m.Header.Set(key, v)
			}
		}
		change(m)
		ack, err := js.PublishMsgAsync(m, jetstream.WithStallWait(wire.APITimeout))
		if err != nil {
			return err
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			if wire.APICode(err) != jetstream.JSErrCodeStreamWrongLastSequence {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
