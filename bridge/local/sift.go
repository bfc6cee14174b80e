package local

import (
	"context"
	"errors"
	"fmt"

	"fleetbridge/bridge/local/wire"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// sieve finds messages whose record is damaged under a whole index, as by a flipped bit on the disk: the
// server passes over them without a word, and they stay at the head of their stream and in its count.
type sieve struct {
	first uint64 // of the stream, when it was last looked at
	bad   int    // how often in a row the message there could not be read
}

// badEnough is how often a message must be unreadable before it is given up: an answer that comes while a
// cluster elects a leader may be wrong.
const badEnough = 2

// Sift looks for stored messages that can't be read. They are lost, and said so, and nobody waits for them any more.
// It is called every few seconds.
func (s *Store) Sift(ctx context.Context) error {
	for class := range s.up {
		up := &s.up[class]
		if up.Stream == nil { // see Spool
			continue
		}
		if err := s.sift(ctx, up.name(), &up.sieve); err != nil {
			return fmt.Errorf("stream %s: %w", up.name(), err)
		}
	}
	return nil
}

// sift looks whether the oldest message of a stream can be read, if it is still the one of the last call. One that
// can't is removed.
func (s *Store) sift(ctx context.Context, name string, v *sieve) error {
	ctx, cancel := context.WithTimeout(ctx, wire.APITimeout)
	defer cancel()
	first := func() (uint64, jetstream.Stream, error) {
		stream, err := s.decisive(ctx, name)
		if err != nil || stream.CachedInfo().State.Msgs == 0 {
			return 0, nil, err
		}
		state := stream.CachedInfo().State
		if state.FirstSeq > state.LastSeq { // the server's count is wrong after a damage; this sets it right
			return 0, nil, stream.Purge(ctx, jetstream.WithPurgeSequence(state.FirstSeq))
		}
		return state.FirstSeq, stream, nil
	}
	before := v.first
	head, stream, err := first()
	if err != nil || head == 0 || head != before {
		*v = sieve{first: head}
		return err
	}
	if _, err := stream.GetMsg(ctx, head); errors.Is(err, nats.ErrBadHeaderMsg) { // a program's headers, not the disk
		v.bad = 0
		return nil
	} else if wire.APICode(err) != jetstream.JSErrCodeMessageNotFound {
		v.bad = 0
		return err
	}
	if now, _, err := first(); err != nil || now != head { // it was delivered meanwhile
		*v = sieve{first: now}
		return err
	}
	if v.bad++; v.bad < badEnough {
		return nil
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(head+1)); err != nil {
		return err
	}
	*v = sieve{}
	s.log.Error("a stored message can't be read any more: its record on the disk is damaged; it is lost", "stream", name, "sequence", head)
	return nil
}
