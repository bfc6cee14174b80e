package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Versions before the journal kept what programs had published in two streams of the embedded server. The first start
// moves it over, before programs can connect: messages in their order, in groups, each of which also says how far it goes.
// So a kill at any point costs nothing and repeats nothing; when all is there, the stream is removed.
//
// Whether a response was sent is remembered by the sequence of its message (bridge.Executions). So a message that was
// moved keeps its sequence, and the journal's own numbers begin behind all of them.

// States of the journal.
const (
	stateBase  = "base"   // a number that is added to the journal's own
	stateMoved = "moved." // and the name of a stream: how far it was moved
)

// moved is how far a stream was moved.
type moved struct {
	Created  time.Time `json:"created"` // of the stream
	Sequence uint64    `json:"seq"`
}

const (
	moveRead    = 4 << 20 // bytes that are read at once, about
	moveMost    = 4096    // messages, at most
	moveReaders = 8
	moveBytes   = 256 << 10 // of a group, and one message more
)

// takeOverStreams moves what the streams of an older version hold into the journal.
func (s *Spool) takeOverStreams(ctx context.Context) error {
	var found []jetstream.Stream
	if err := s.state(stateBase, &s.base); err != nil {
		return err
	}
	base := s.base
	for _, class := range mapping.Classes {
		name := s.subjects.Name(wire.UpStream(class))
		stream, err := s.store.js.Stream(ctx, name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			delete(s.store.custody.last, name)
			if err := s.forgetMoved(ctx, name); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("stream %s: %w", name, err)
		default:
			found = append(found, stream)
			base = max(base, stream.CachedInfo().State.LastSeq)
		}
	}
	if base != s.base {
		if err := s.putState(ctx, stateBase, base); err != nil {
			return err
		}
		s.base = base
	}
	for _, stream := range found {
		if err := s.takeOverStream(ctx, stream); err != nil {
			return fmt.Errorf("what stream %s of an older version holds can't be moved into the journal: %w; make room on the disk, or run the older version until it is empty",
				stream.CachedInfo().Config.Name, err)
		}
	}
	return nil
}

// moves reports whether a stream is moved into the journal, if it is there.
func (s *Store) moves(stream string) bool {
	return s.cfg.Embedded && slices.ContainsFunc(mapping.Classes[:], func(c mapping.Class) bool { return stream == s.cfg.Subjects.Name(wire.UpStream(c)) })
}

func (s *Spool) state(key string, v any) error {
	value, err := s.journal.Get(key)
	if errors.Is(err, journal.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(value, v)
	}
	if err != nil {
		return fmt.Errorf("journal %s: %q: %w", s.dir, key, err)
	}
	return nil
}

func (s *Spool) putState(ctx context.Context, key string, v any) error {
	g := journal.Group{Urgent: true}
	putState(&g, key, v)
	_, err := s.journal.Append(ctx, &g)
	return err
}

func putState(g *journal.Group, key string, v any) {
	value, _ := json.Marshal(v) // numbers and times
	g.Put(key, value)
}

func (s *Spool) forgetMoved(ctx context.Context, stream string) error {
	if _, err := s.journal.Get(stateMoved + stream); errors.Is(err, journal.ErrNotFound) {
		return nil
	}
	g := journal.Group{Urgent: true}
	g.Delete(stateMoved + stream)
	_, err := s.journal.Append(ctx, &g)
	return err
}

func (s *Spool) takeOverStream(ctx context.Context, stream jetstream.Stream) error {
	if err := s.store.custody.compare(ctx, stream); err != nil {
		return err
	}
	info, listed, err := streams.Detailed(ctx, stream)
	if err != nil {
		return err
	}
	name, state := info.Config.Name, info.State
	var done moved
	if err := s.state(stateMoved+name, &done); err != nil {
		return err
	}
	if !done.Created.Equal(info.Created) {
		done = moved{Created: info.Created}
	}
	holes := make(map[uint64]bool, len(state.Deleted))
	for _, seq := range state.Deleted {
		holes[seq] = true
	}
	if state.Msgs > 0 {
		s.log.Info("moving what an older version has stored into the journal", "stream", name, "messages", state.Msgs)
	}
	lost, step := 0, uint64(min(max(moveRead*state.Msgs/max(state.Bytes, 1), moveReaders), moveMost))
	for from := max(state.FirstSeq, done.Sequence+1); from <= state.LastSeq; from += step {
		to := min(from+step-1, state.LastSeq)
		messages, missing, err := readStream(ctx, stream, from, to, holes)
		if err != nil {
			return err
		}
		if listed {
			lost += missing
		}
		done.Sequence = to
		if err := s.move(ctx, name, messages, done); err != nil {
			return err
		}
		if !listed || lost > 0 || len(messages) == 0 {
			continue // the server loses sight of what lies behind a damaged record, if a purge makes it the first
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSequence(messages[len(messages)-1].Sequence)); err != nil { // which makes room on the disk
			return err
		}
	}
	if lost > 0 {
		s.log.Error("stored messages can't be read any more: their records on the disk are damaged; they are lost", "stream", name, "messages", lost)
	}
	if err := s.store.js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	delete(s.store.custody.last, name)
	return s.forgetMoved(ctx, name)
}

// readStream reads a part of a stream. missing counts what should be there and can't be read.
func readStream(ctx context.Context, stream jetstream.Stream, from, to uint64, holes map[uint64]bool) (messages []*jetstream.RawStreamMsg, missing int, err error) {
	all := make([]*jetstream.RawStreamMsg, to-from+1)
	errs := make([]error, moveReaders)
	var work sync.WaitGroup
	for r := range moveReaders {
		work.Go(func() {
			for seq := from + uint64(r); seq <= to && errs[r] == nil; seq += moveReaders {
				if holes[seq] {
					continue
				}
				all[seq-from], errs[r] = streams.ReadOne(ctx, stream, seq)
			}
		})
	}
	work.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, 0, err
	}
	for i, m := range all {
		switch {
		case m != nil:
			messages = append(messages, m)
		case !holes[from+uint64(i)]:
			missing++
		}
	}
	return messages, missing, nil
}

// move stores a part of a stream, group after group, and how far it goes.
func (s *Spool) move(ctx context.Context, stream string, messages []*jetstream.RawStreamMsg, done moved) error {
	g, bytes := &journal.Group{Urgent: true}, 0
	put := func(seq uint64) error {
		putState(g, stateMoved+stream, moved{Created: done.Created, Sequence: seq})
		_, err := s.journal.Append(ctx, g)
		g, bytes = &journal.Group{Urgent: true}, 0
		return err
	}
	for _, m := range messages {
		e := entry{subject: m.Subject, received: m.Time, sequence: m.Sequence, trace: wire.TraceOf(m.Header), stamp: stampOf(m.Header), payload: m.Data, id: m.Header.Get(jetstream.MsgIDHeader)}
		body := e.encode()
		if int64(len(body)) > s.journal.LargestGroup()-wire.Headroom { // on a disk of a few MiB
			if err := s.bury(ctx, &e); err != nil {
				return err
			}
			continue
		}
		lane := laneKey(subjectKey(m.Subject, s.subjects.Space(mapping.SpaceUp)))
		g.Message(lane, body)
		if e.id != "" && time.Since(m.Time) < duplicates {
			g.Remember(idOf(lane, e.id))
		}
		if bytes += len(body) + recordCost; bytes >= moveBytes {
			if err := put(m.Sequence); err != nil {
				return err
			}
		}
	}
	return put(done.Sequence)
}

// bury makes a dead letter of a message that does not fit into the journal.
func (s *Spool) bury(ctx context.Context, e *entry) error {
	l := bridge.Letter{Direction: mapping.Up, Message: bridge.Message{Payload: e.payload, Trace: e.trace, Received: e.received, Origin: e.subject},
		Rejection: bridge.Rejectf(bridge.CodeTooLarge, "the message has %d bytes, the journal takes %d on this disk", len(e.payload), s.journal.LargestGroup()-wire.Headroom)}
	l.Address, l.Stray, _ = addressOf(s.subjects, "", e.subject)
	done := make(chan error, 1)
	if err := s.store.Bury(ctx, l, func(err error) { done <- err }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// takeOver moves what a bucket of an older version holds into the journal, before anybody asks for it; kept says which
// keys stay. A kill at any point costs nothing: what was moved is moved once more, and is the same.
func (r *records) takeOver(ctx context.Context, kept func(key string) bool) error {
	js, name := r.spool.store.js, r.spool.subjects.Name(r.name)
	kv, err := js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w", name, err)
	}
	moved, err := r.copyBucket(ctx, kv, kept)
	if err != nil {
		return fmt.Errorf("what bucket %s of an older version holds can't be moved into the journal: %w", name, err)
	}
	if len(moved) > 0 {
		r.spool.log.Info("what an older version remembered was moved into the journal", "bucket", name, "keys", len(moved))
	}
	if kept == nil {
		if err := js.DeleteKeyValue(ctx, name); err != nil && !errors.Is(err, jetstream.ErrBucketNotFound) {
			return fmt.Errorf("bucket %s: %w", name, err)
		}
		return nil
	}
	b := r.spool.store.bucket(r.name)
	for _, key := range moved {
		if err := b.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// copyBucket returns the keys that it has copied.
func (r *records) copyBucket(ctx context.Context, kv jetstream.KeyValue, kept func(key string) bool) (keys []string, err error) {
	g, bytes := &journal.Group{Urgent: true}, 0
	put := func() error {
		_, err := r.spool.journal.Append(ctx, g)
		g, bytes = &journal.Group{Urgent: true}, 0
		return err
	}
	err = streams.Entries(ctx, kv, []string{">"}, func(e jetstream.KeyValueEntry) error {
		if kept != nil && kept(e.Key()) {
			return nil
		}
		keys = append(keys, e.Key())
		g.Put(r.key(e.Key()), encodeRecord(e.Created(), e.Value()))
		if bytes += len(e.Value()) + recordCost; bytes < moveBytes {
			return nil
		}
		return put()
	})
	if err == nil {
		err = put()
	}
	return keys, err
}
