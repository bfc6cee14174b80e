package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

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
func (f *Finder) Came(ctx context.Context, t mapping.Thing, c mapping.Channel, before uint64, limit, head int) (streams.Page[Stored], error) {
	subject := f.subjects.Prefix() + "." + string(mapping.SpaceDown) + "." + mapping.Token(string(t)) + ".>"
	return streams.Browse(ctx, f.js, f.subjects.Name(wire.StreamDown), subject, before, limit, func(m *jetstream.RawStreamMsg) (Stored, bool) {
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
	page, err := streams.Browse(ctx, s.js, "KV_"+bucket, root+prefix+"*", 0, limit, func(m *jetstream.RawStreamMsg) (l LeasedJob, wanted bool) {
		if m.Header.Get(wire.HeaderOperation) != "" { // a deletion
			return l, false
		}
		return parse(strings.TrimPrefix(m.Subject, root), m.Data)
	})
	return page.Items, err
}
