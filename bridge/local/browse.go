package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Page is some of what is stored, the newest first.
type Page[T any] struct {
	Items  []T
	Next   uint64 // where the next page begins; 0: this is the last. A page may have no items and a Next
	Looked int    // messages that were read for it
	Total  uint64 // messages that the stream holds, whatever was asked for
}

// Bounds of one page: messages that are read, and how far it looks back at first.
const (
	maxBrowse   = 1000
	firstWindow = 64
)

// browse reads the messages under a subject before a sequence, 0: from the newest, and hands out what pick makes of
// them, the newest first and limit at most. It makes no consumer: the server finds the next message under a subject, so
// a window is read forwards, and then the one before it, which is larger where little was found.
func browse[T any](ctx context.Context, js jetstream.JetStream, name, subject string, before uint64, limit int, pick func(*jetstream.RawStreamMsg) (T, bool)) (out Page[T], err error) {
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("stream %s: %w", name, err)
	}
	state := stream.CachedInfo().State
	out.Total = state.Msgs
	if end := state.LastSeq + 1; before == 0 || before > end {
		before = end
	}
	type one struct {
		sequence uint64
		item     T
	}
	for size := uint64(firstWindow); before > max(state.FirstSeq, 1) && state.Msgs > 0; {
		from := max(state.FirstSeq, 1)
		if before-from > size {
			from = before - size
		}
		var window []one
		read := 0
		for next := from; next < before; read++ {
			if out.Looked+read == maxBrowse {
				out.Next = before
				return out, nil
			}
			m, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subject))
			if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && m.Sequence >= before {
				break
			}
			if err != nil {
				return out, fmt.Errorf("stream %s: %w", name, err)
			}
			next = m.Sequence + 1
			if item, wanted := pick(m); wanted {
				window = append(window, one{m.Sequence, item})
			}
		}
		out.Looked += read
		for _, o := range slices.Backward(window) {
			if len(out.Items) == limit {
				out.Next = before
				return out, nil
			}
			out.Items = append(out.Items, o.item)
			before = o.sequence
		}
		before = from
		if uint64(read) < size/8 {
			size *= 4
		}
	}
	return out, nil
}

// Stored is a message from the cloud that programs can read.
type Stored struct {
	Sequence uint64
	At       time.Time // when it came
	Subject  string
	Address  mapping.Address
	Payload  []byte // or its head
	Size     int    // of the whole payload, in bytes
	Trace    bridge.Trace
}

// Came are the messages of a Thing that came from the cloud, of one channel or, without a name, of all. Of a payload the
// first so many bytes are kept.
func (f *Finder) Came(ctx context.Context, t mapping.Thing, c mapping.Channel, before uint64, limit, head int) (Page[Stored], error) {
	subject := f.subjects.Prefix() + "." + string(mapping.SpaceDown) + "." + mapping.Token(string(t)) + ".>"
	return browse(ctx, f.js, f.subjects.Name(wire.StreamDown), subject, before, limit, func(m *jetstream.RawStreamMsg) (Stored, bool) {
		s := f.stored(m, head)
		return s, c == "" || s.Address.Channel == c
	})
}

func (f *Finder) stored(m *jetstream.RawStreamMsg, head int) Stored {
	s := Stored{Sequence: m.Sequence, At: wire.Received(m.Header, m.Time), Subject: m.Subject, Size: len(m.Data), Trace: wire.TraceOf(m.Header)}
	_, s.Address, _ = f.subjects.Parse(m.Subject)
	s.Payload = bytes.Clone(m.Data[:min(head, len(m.Data))])
	return s
}

// ErrNoMessage is returned for a message that is not there, or not the Thing's.
var ErrNoMessage = errors.New("there is no such message any more")

// CameOne is one of them, whole, or ErrNoMessage.
func (f *Finder) CameOne(ctx context.Context, t mapping.Thing, sequence uint64) (Stored, error) {
	stream, err := f.js.Stream(ctx, f.subjects.Name(wire.StreamDown))
	if err != nil {
		return Stored{}, err
	}
	m, err := stream.GetMsg(ctx, max(sequence, 1))
	if sequence == 0 || errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && !strings.HasPrefix(m.Subject, f.subjects.Prefix()+"."+string(mapping.SpaceDown)+"."+mapping.Token(string(t))+".") {
		return Stored{}, ErrNoMessage
	}
	if err != nil {
		return Stored{}, err
	}
	return f.stored(m, len(m.Data)), nil
}

// LeasedJob is a job's execution that a worker has.
type LeasedJob struct {
	Job string
	bridge.Lease
}

// Leased are the Thing's leases. With the embedded server the bridge has them in its journal, and with another they are
// read from the bucket.
func (s *Store) Leased(ctx context.Context, t mapping.Thing, limit int) (out []LeasedJob, err error) {
	prefix := mapping.Token(string(t)) + "."
	parse := func(key string, value []byte) (l LeasedJob, ok bool) {
		var err error
		l.Job, err = mapping.Untoken(strings.TrimPrefix(key, prefix))
		return l, err == nil && json.Unmarshal(value, &l.Lease) == nil && l.Worker != ""
	}
	if s.cfg.Embedded {
		err := s.Leases().List(ctx, prefix, func(key string, value []byte) error {
			if l, ok := parse(key, value); ok && len(out) < limit {
				out = append(out, l)
			}
			return nil
		})
		return out, err
	}
	bucket := s.cfg.Subjects.Name(wire.BucketLeases)
	root := "$KV." + bucket + "."
	page, err := browse(ctx, s.js, "KV_"+bucket, root+prefix+"*", 0, limit, func(m *jetstream.RawStreamMsg) (l LeasedJob, wanted bool) {
		if m.Header.Get(wire.HeaderOperation) != "" { // a deletion
			return l, false
		}
		return parse(strings.TrimPrefix(m.Subject, root), m.Data)
	})
	return page.Items, err
}

// Before are the dead letters of a selection before an id, 0: from the newest, without payloads. Since and Limit of the
// selection have no meaning here.
func (d *DeadLetters) Before(ctx context.Context, s Selection, before uint64, limit int) (Page[DeadLetter], error) {
	if _, err := d.stream(ctx); err != nil {
		return Page[DeadLetter]{}, err
	}
	return browse(ctx, d.js, d.subjects.Name(wire.StreamDead), s.filter(d.subjects), before, limit, func(m *jetstream.RawStreamMsg) (DeadLetter, bool) {
		l, err := parseLetter(d.subjects, m.Subject, m.Header)
		l.ID, l.Stored, l.Size, l.Received = m.Sequence, m.Time, len(m.Data), wire.Received(m.Header, m.Time)
		return l, err == nil && s.picks(l)
	})
}

// Count is how many dead letters a Thing has.
func (d *DeadLetters) Count(ctx context.Context, t mapping.Thing) (uint64, error) {
	if _, err := d.stream(ctx); err != nil {
		return 0, err
	}
	return streams.Count(ctx, d.nc, d.subjects.Name(wire.StreamDead), Selection{Thing: t}.filter(d.subjects))
}
