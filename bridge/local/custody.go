package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"

	"github.com/nats-io/nats.go/jetstream"
)

// custody remembers how far every stream had come, so that a store whose files were damaged, removed
// or put back from an old copy does not start silently with less than it had. The server itself cuts a
// damaged file at its first bad record and says nothing.
type custody struct {
	kv    jetstream.KeyValue
	log   *slog.Logger
	last  map[string]mark // by stream: the last run's until it is compared, then this run's at its start
	noted []byte          // the value in the bucket; nil: not written in this run
	// behind: the streams are written behind the journal, see views.
	behind bool
}

// mark is how far a stream had come.
type mark struct {
	Last uint64 `json:"last"` // sequence of its last message
	// Messages is how many it held, when the bridge had stopped in order; else they may have changed
	// after the mark was made.
	Messages *uint64 `json:"messages,omitempty"`
}

// custodyKey is no token of a Thing: "=" begins an escape there.
const custodyKey = "=custody"

// loadCustody reads what the last run noted. The streams are opened after it.
func loadCustody(ctx context.Context, js jetstream.JetStream, bucket string, log *slog.Logger) (*custody, error) {
	c := &custody{log: log, last: map[string]mark{}}
	kv, err := js.KeyValue(ctx, bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", bucket, err)
	}
	entry, err := kv.Get(ctx, custodyKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return c, nil
	case err != nil:
		return nil, fmt.Errorf("bucket %s: %s: %w", bucket, custodyKey, err)
	}
	err = json.Unmarshal(entry.Value(), &c.last)
	if err == nil && c.last == nil {
		err = errors.New("it is null")
	}
	if err != nil {
		c.log.Error("the record of what the streams held is damaged; whether something is missing can't be told", "bucket", bucket, "error", err)
		c.last = map[string]mark{}
	}
	return c, nil
}

// compare reports, once for each stream, what is missing of it.
func (c *custody) compare(ctx context.Context, stream jetstream.Stream) error {
	info, _, err := streams.Detailed(ctx, stream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", stream.CachedInfo().Config.Name, err)
	}
	name := info.Config.Name
	c.judge(c.last[name], info)
	c.last[name] = mark{Last: info.State.LastSeq}
	return nil
}

// judge says what is missing, as far as it can be told.
func (c *custody) judge(was mark, info *jetstream.StreamInfo) {
	state, clean := info.State, was.Messages != nil
	name := info.Config.Name
	lost := 0
	if state.Lost != nil {
		lost = len(state.Lost.Msgs)
	}
	switch {
	case state.LastSeq < was.Last:
		c.log.Error("the end of a stream is missing: its files were damaged, removed, or come from an older copy; what they held is lost",
			"stream", name, "ends_at", state.LastSeq, "ended_at", was.Last, "messages_lost", was.Last-state.LastSeq)
	case clean && info.Config.MaxAge == 0 && state.Msgs < *was.Messages:
		c.log.Error("messages are missing from a stream: its files were damaged or removed; what they held is lost",
			"stream", name, "messages", state.Msgs, "messages_before", *was.Messages, "messages_lost", *was.Messages-state.Msgs)
	case clean && lost > 0:
		c.log.Error("part of a stream's files was damaged; the messages in it are lost", "stream", name, "messages_lost", lost, "bytes_lost", state.Lost.Bytes)
	case lost > 0:
		// The server also counts what was delivered, and removed with its file, just before a kill.
		c.log.Info("the server misses messages of a stream; after a kill these are commonly ones that had been delivered",
			"stream", name, "messages", lost, "bytes", state.Lost.Bytes)
	case state.Lost != nil && !clean && c.behind:
		c.log.Info("the last record of a stream was torn, as by a power cut; it is written again from the journal", "stream", name, "bytes", state.Lost.Bytes)
	case state.Lost != nil && !clean:
		c.log.Warn("the last record of a stream was torn, as by a power cut, and is dropped; nobody had been told that it is stored",
			"stream", name, "bytes_lost", state.Lost.Bytes)
	}
}

// note writes how far the streams have come, if anything has changed.
func (c *custody) note(ctx context.Context, now map[string]mark) error {
	value, err := json.Marshal(now)
	if err != nil || bytes.Equal(value, c.noted) {
		return err
	}
	if _, err := c.kv.Put(ctx, custodyKey, value); err != nil {
		return fmt.Errorf("noting what the streams hold: %w", err)
	}
	c.noted = value
	return nil
}

// Note writes down how far every stream has come, for the next start. It is called every few seconds,
// and at the end with clean set, when nothing changes any more. It writes only what has changed.
func (s *Store) Note(ctx context.Context, clean bool) error {
	ctx, cancel := context.WithTimeout(ctx, wire.APITimeout)
	defer cancel()
	if clean && s.spool != nil {
		if err := s.spool.views.caughtUp(ctx); err != nil {
			return err
		}
	}
	now := map[string]mark{}
	for name := range s.custody.last {
		if name == journalMark {
			continue
		}
		if s.moves(name) {
			now[name] = mark{Last: s.custody.last[name].Last}
			continue
		}
		stream, err := s.js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("stream %s: %w", name, err)
		}
		state := stream.CachedInfo().State
		m := mark{Last: state.LastSeq}
		if clean {
			m.Messages = &state.Msgs
		}
		now[name] = m
	}
	if s.spool != nil {
		now[journalMark] = s.spool.mark(clean)
	} else if m, was := s.custody.last[journalMark]; was { // it is opened later
		now[journalMark] = mark{Last: m.Last}
	}
	return s.custody.note(ctx, now)
}
