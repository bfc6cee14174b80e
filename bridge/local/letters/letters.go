// Package letters has the dead letters: how one is stored, who reads and removes them, and how one is sent on its way again.
// It needs a connection and nothing else of a running bridge. Store.Bury stores letters.
package letters

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Letters reads the dead letters, removes them, and sends them on their way again.
type Letters struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	subjects mapping.Subjects
}

// ErrNone is wrapped with the id.
var ErrNone = errors.New("no such dead letter")

// New serves the dead letters of the bridge with these subjects.
func New(nc *nats.Conn, subjects mapping.Subjects) (*Letters, error) {
	js, err := wire.JetStream(nc)
	if err != nil {
		return nil, err
	}
	return On(js, subjects), nil
}

// On is New for a caller that has a JetStream already.
func On(js jetstream.JetStream, subjects mapping.Subjects) *Letters {
	return &Letters{js.Conn(), js, subjects}
}

// Address is where a letter was going; an error tells why that is nowhere.
func (d *Letters) Address(l Letter) (mapping.Address, error) {
	if l.Direction == mapping.Down {
		_, address, err := d.subjects.Parse(l.Subject)
		return address, err
	}
	_, address, err := d.subjects.Parse(d.upSubject(l))
	return address, err
}

// upSubject is what the program published on, or, if a letter says what can't be that, where it is stored says.
func (d *Letters) upSubject(l Letter) string {
	space := d.subjects.Prefix() + "." + string(mapping.SpaceUp) + "."
	if strings.HasPrefix(l.Origin, space) && !strings.ContainsFunc(l.Origin, wire.NotPrintable) {
		return l.Origin
	}
	return space + strings.TrimPrefix(l.Subject, d.subjects.Prefix()+".dead.up.")
}

func (d *Letters) stream(ctx context.Context) (jetstream.Stream, error) {
	name := d.subjects.Name(wire.StreamDead)
	stream, err := d.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("stream %s: not found; is a fleetbridge with nats.prefix %s running on this server?", name, d.subjects.Prefix())
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	return stream, nil
}

// Selection picks dead letters; what is zero picks all.
type Selection struct {
	Thing     mapping.Thing
	Code      string // as in Fleets-Error-Code
	Channel   string // the channel's name
	Direction string // "up" or "down"
	Since     time.Time
	Limit     int // the oldest so many
}

// filter is the subject of what is selected, as far as a subject can tell.
func (s Selection) filter(subjects mapping.Subjects) string {
	direction, thing := cmp.Or(s.Direction, "*"), "*"
	if s.Thing != "" {
		thing = mapping.Token(string(s.Thing))
	}
	return subjects.Prefix() + ".dead." + direction + "." + thing + ".>"
}

func (s Selection) picks(l Letter) bool {
	return (s.Code == "" || s.Code == l.Code) && (s.Channel == "" || s.Channel == l.Channel) && !l.Stored.Before(s.Since)
}

// pageSize bounds what Each holds in memory.
const pageSize = 500

// Each calls f for every letter of a selection, the oldest first, without payloads, until f returns an error.
func (d *Letters) Each(ctx context.Context, s Selection, f func(Letter) error) error {
	stream, err := d.stream(ctx)
	if err != nil {
		return err
	}
	for after, picked := uint64(0), 0; ; {
		page, err := d.page(ctx, stream, s, after)
		if err != nil {
			return err
		}
		for _, l := range page {
			after = l.ID
			if !s.picks(l) {
				continue
			}
			if err := f(l); err != nil {
				return err
			}
			if picked++; picked == s.Limit {
				return nil
			}
		}
		if len(page) < pageSize {
			return nil
		}
	}
}

// page returns the first letters after one. A page shorter than pageSize is the last.
func (d *Letters) page(ctx context.Context, stream jetstream.Stream, s Selection, after uint64) ([]Letter, error) {
	config := jetstream.ConsumerConfig{
		FilterSubject: s.filter(d.subjects), DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
		AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true, MemoryStorage: true, InactiveThreshold: time.Minute,
	}
	if after == 0 && !s.Since.IsZero() {
		config.DeliverPolicy, config.OptStartSeq, config.OptStartTime = jetstream.DeliverByStartTimePolicy, 0, &s.Since
	}
	consumer, err := stream.CreateConsumer(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	info := consumer.CachedInfo()
	defer func() { _ = stream.DeleteConsumer(context.WithoutCancel(ctx), info.Name) }()
	wanted := int(min(uint64(pageSize), info.NumPending))
	if wanted == 0 {
		return nil, nil
	}
	batch, err := consumer.Fetch(wanted, jetstream.FetchMaxWait(wire.APITimeout))
	if err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	out := make([]Letter, 0, wanted)
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case m, ok := <-batch.Messages():
			if !ok {
				return out, batch.Error()
			}
			letter, err := d.listed(m)
			if err != nil {
				return nil, err
			}
			out = append(out, letter)
		}
	}
}

// Remove deletes letters for good. The result has an error for every id that failed.
func (d *Letters) Remove(ctx context.Context, ids ...uint64) map[uint64]error {
	failed := map[uint64]error{}
	stream, err := d.stream(ctx)
	for _, id := range ids {
		failure := err
		if failure == nil {
			_, failure = d.get(ctx, stream, id) // what the server says of one that is not there depends on where it was
		}
		if failure == nil {
			failure = stream.DeleteMsg(ctx, id)
		}
		if failure != nil {
			failed[id] = failure
		}
	}
	return failed
}

// listed reads a letter that came without its payload.
func (d *Letters) listed(m jetstream.Msg) (Letter, error) {
	letter, err := Parse(d.subjects, m.Subject(), m.Headers())
	if err != nil {
		return letter, err
	}
	meta, err := m.Metadata()
	if err != nil {
		return letter, err
	}
	letter.ID, letter.Stored = meta.Sequence.Stream, meta.Timestamp
	letter.Received = wire.Received(m.Headers(), meta.Timestamp)
	letter.Size, _ = strconv.Atoi(m.Headers().Get(nats.MsgSize))
	return letter, nil
}

// Get returns a letter with its payload, or ErrNone.
func (d *Letters) Get(ctx context.Context, id uint64) (Letter, error) {
	stream, err := d.stream(ctx)
	if err != nil {
		return Letter{}, err
	}
	return d.get(ctx, stream, id)
}

func (d *Letters) get(ctx context.Context, stream jetstream.Stream, id uint64) (Letter, error) {
	raw, err := stream.GetMsg(ctx, id)
	if id == 0 || errors.Is(err, jetstream.ErrMsgNotFound) {
		return Letter{}, fmt.Errorf("%d: %w; fleetbridge dead ls lists what there is", id, ErrNone)
	}
	if err != nil {
		return Letter{}, fmt.Errorf("%d: %w", id, err)
	}
	letter, err := Parse(d.subjects, raw.Subject, raw.Header)
	letter.ID, letter.Stored, letter.Payload, letter.Size = id, raw.Time, raw.Data, len(raw.Data)
	letter.Received = wire.Received(raw.Header, raw.Time)
	return letter, err
}

// Replay sends letters the way they were going and removes them: upwards they are checked again, and
// may come back as new letters; downwards they are delivered unchecked. The result has an error for
// every id that failed; such a letter stays.
func (d *Letters) Replay(ctx context.Context, ids ...uint64) map[uint64]error {
	failed := map[uint64]error{}
	stream, err := d.stream(ctx)
	for _, id := range ids {
		if err != nil {
			failed[id] = err
			continue
		}
		if err := d.replay(ctx, stream, id, nil); err != nil {
			failed[id] = err
		}
	}
	return failed
}

// ReplayAs is Replay of one letter with another payload in the place of its own.
func (d *Letters) ReplayAs(ctx context.Context, id uint64, payload []byte) error {
	stream, err := d.stream(ctx)
	if err != nil {
		return err
	}
	return d.replay(ctx, stream, id, append([]byte{}, payload...))
}

// replay sends a letter on, with edited as its payload unless that is nil.
func (d *Letters) replay(ctx context.Context, stream jetstream.Stream, id uint64, edited []byte) error {
	letter, err := d.get(ctx, stream, id)
	if err != nil {
		return err
	}
	mark := ""
	if edited != nil {
		letter.Payload, letter.Truncated = edited, 0
		mark = fmt.Sprintf("-%x", sha256.Sum256(edited))
	}
	if letter.Truncated > 0 {
		return fmt.Errorf("%d: only %d of its %d bytes are kept, it can't be sent", id, letter.Size, letter.Truncated)
	}
	m, err := d.resend(letter)
	if err != nil {
		return fmt.Errorf("%d: %w", id, err)
	}
	if letter.Direction == mapping.Down {
		if err := d.replayDown(ctx, id, edited); !errors.Is(err, errNoBridge) {
			return err
		}
	}
	// The same id for the same letter: one that was sent but not removed is not stored twice.
	m.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("replay-%d-%d%s", id, letter.Stored.UnixNano(), mark))
	if _, err := d.js.PublishMsg(ctx, m); err != nil {
		if errors.Is(err, jetstream.ErrNoStreamResponse) {
			err = errors.New("no stream takes it; is its Thing still configured?")
		}
		return fmt.Errorf("%d: not sent, and kept: %w", id, err)
	}
	return d.replayed(ctx, stream, id)
}

// resend makes the message that a letter was before.
func (d *Letters) resend(l Letter) (*nats.Msg, error) {
	if l.Direction == mapping.Up {
		m := nats.NewMsg(d.upSubject(l))
		m.Data = l.Payload
		wire.SetTrace(m.Header, l.Trace)
		return m, nil
	}
	m, err := d.downAgain(l)
	if err != nil {
		return nil, err
	}
	return wire.DownMessage(d.subjects, m), nil
}

// Before are the dead letters of a selection before an id, 0: from the newest, without payloads. Since and Limit of the
// selection have no meaning here.
func (d *Letters) Before(ctx context.Context, s Selection, before uint64, limit int) (streams.Page[Letter], error) {
	if _, err := d.stream(ctx); err != nil {
		return streams.Page[Letter]{}, err
	}
	return streams.Browse(ctx, d.js, d.subjects.Name(wire.StreamDead), s.filter(d.subjects), before, limit, func(m *jetstream.RawStreamMsg) (Letter, bool) {
		l, err := Parse(d.subjects, m.Subject, m.Header)
		l.ID, l.Stored, l.Size, l.Received = m.Sequence, m.Time, len(m.Data), wire.Received(m.Header, m.Time)
		return l, err == nil && s.picks(l)
	})
}

// Count is how many dead letters a Thing has.
func (d *Letters) Count(ctx context.Context, t mapping.Thing) (uint64, error) {
	if _, err := d.stream(ctx); err != nil {
		return 0, err
	}
	return streams.Count(ctx, d.nc, d.subjects.Name(wire.StreamDead), Selection{Thing: t}.filter(d.subjects))
}
