package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
)

// stateViews is where the journal has its id for the headers of messages.
const stateViews = "views"

// begin writes what the streams lack, at the start.
func (v *views) begin(ctx context.Context) (err error) {
	if err := v.spool.state(stateViews, &v.id); err != nil {
		return err
	}
	strange := v.id == "" // the journal is new
	for _, s := range v.each() {
		if s.stream, err = v.spool.store.js.Stream(ctx, s.name); err != nil {
			return fmt.Errorf("stream %s: %w", s.name, err)
		}
		s.stream.CachedInfo().Config.AllowDirect = false
		if err := s.look(ctx); err != nil {
			return err
		}
		strange = strange || s.newest > v.spool.journal.Last() // it is an older copy
	}
	if strange { // its numbers mean others than those in the streams
		v.id = nuid.Next()[nuidPrefix:]
		if err := v.spool.putState(ctx, stateViews, v.id); err != nil {
			return err
		}
	}
	last := v.spool.journal.Last()
	for _, s := range v.each() {
		if strange {
			s.newest = 0
		}
		err := s.catchUp(ctx, last+1, false)
		if err != nil {
			err = errors.Join(s.look(ctx), s.catchUp(ctx, last+1, true))
		}
		if err != nil {
			return fmt.Errorf("stream %s can't be brought up to date: %w", s.name, err)
		}
	}
	v.queued, v.written = last, last
	flow.Signal(v.due)
	return nil
}

// nuidPrefix is the part of an id that is the same in a process.
const nuidPrefix = 12

// lookAgain finds out what a stream has after something failed, and writes what it lacks of the records below a number.
func (v *views) lookAgain(s *view, before uint64) error {
	v.mu.Lock()
	v.restarts++
	v.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	if err := s.look(ctx); err != nil {
		return err
	}
	return s.catchUp(ctx, before, true)
}

// replayed is how many messages without a number are passed over: people may have replayed dead letters. More than these were
// written by an older version.
const replayed = 64

// look reads how far the stream has come. What was sent to it before has been stored by then, or never will be.
func (s *view) look(ctx context.Context) error {
	if err := s.fence(ctx); err != nil {
		return fmt.Errorf("stream %s: %w", s.name, err)
	}
	now, err := s.of.spool.store.js.Stream(ctx, s.name)
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.name, err)
	}
	s.last, s.newest, s.at = now.CachedInfo().State.LastSeq, 0, 0
	m, err := s.stream.GetLastMsgForSubject(ctx, s.public)
	switch {
	case err == nil:
		for seq := m.Sequence; s.newest == 0 && seq > 0 && m.Sequence-seq < replayed; seq-- {
			if m, err := streams.ReadOne(ctx, s.stream, seq); err != nil {
				return fmt.Errorf("stream %s: %w", s.name, err)
			} else if m != nil {
				s.newest, s.at = s.numberOf(m), seq
			}
		}
	case wire.APICode(err) == 0 || wire.NotYet(err):
		return fmt.Errorf("stream %s: %w", s.name, err)
	case !errors.Is(err, jetstream.ErrMsgNotFound):
		s.of.log.Warn("the newest message of a stream can't be read; what may be missing is written again", "stream", s.name, "error", err)
	}
	return nil
}

// fence is answered when everything that was sent to the stream before has been.
func (s *view) fence(ctx context.Context) error {
	m := nats.NewMsg(wire.Internal(strings.TrimSuffix(s.public, ">") + "fence"))
	m.Header.Set(jetstream.ExpectedStreamHeader, "none") // so it is refused
	answer, err := s.of.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return err
	}
	if _, err = streams.PubAck(answer); wire.APICode(err) != codeOtherStream {
		return fmt.Errorf("an unexpected answer: %w", err)
	}
	return nil
}

// codeOtherStream says that a message expected to come into another stream.
const codeOtherStream = 10060

// numberOf is the number of the journal's record from which a message was written; 0: there is none.
func (s *view) numberOf(m *jetstream.RawStreamMsg) uint64 {
	id, text, _ := strings.Cut(m.Header.Get(headerNumber), ".")
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id != s.of.id {
		return 0
	}
	return n
}

// catchUp writes what the stream lacks of the journal's records below a number.
func (s *view) catchUp(ctx context.Context, before uint64, single bool) error {
	var there []uint64
	lacks := 0
	err := s.records(ctx, before, func(c *charge) error {
		if c.number <= s.newest {
			there = append(there, c.number)
		} else {
			lacks++
		}
		return nil
	})
	if err == nil {
		err = s.whole(ctx, there)
	}
	if err != nil || lacks == 0 && (len(there) == 0 || s.newest >= there[len(there)-1]) {
		return err
	}
	var batch []*charge
	bytes, written := 0, 0
	put := func() error {
		err := s.put(ctx, batch, single)
		written += len(batch)
		batch, bytes = nil, 0
		return err
	}
	err = s.records(ctx, before, func(c *charge) error {
		if c.number <= s.newest {
			return nil
		}
		batch = append(batch, c)
		if bytes += len(c.body); len(batch) < viewBatch && bytes < streams.GroupBytes {
			return nil
		}
		return put()
	})
	if err == nil && len(batch) > 0 {
		err = put()
	}
	if err == nil {
		s.of.log.Info("what a stream lacked was written from the journal", "stream", s.name, "messages", written)
	}
	return err
}

// records calls f for the journal's records of the stream below a number, in order. It counts and logs what it can't read.
func (s *view) records(ctx context.Context, before uint64, f func(*charge) error) error {
	v, missed := s.of, misses{}
	for after, tries := uint64(0), 0; ; {
		messages := v.spool.journal.Views(after, moveRead)
		for _, m := range messages {
			if m.Number >= before {
				messages = nil
				break
			}
			if passes(m.Err) && tries < readTries {
				tries++
				if err := flow.Sleep(ctx, readRest); err != nil {
					return err
				}
				break
			}
			after, tries = m.Number, 0
			c := &charge{view: s, number: m.Number, body: m.Body}
			if m.Err == nil {
				var kind byte
				if kind, _, m.Err = decodeView(m.Body); m.Err == nil && kind != s.kind {
					continue
				}
			}
			if m.Err != nil {
				if m.Number > s.newest && !v.damaged[m.Number] {
					v.damaged[m.Number] = true
					missed.add(m.Number, m.Err)
				}
				continue
			}
			if err := f(c); err != nil {
				return err
			}
		}
		if len(messages) == 0 {
			missed.sayView(s)
			return nil
		}
	}
}

func (m *misses) sayView(s *view) {
	if m.n > 0 {
		s.of.log.Error("records of messages that programs were to see are damaged on the disk; the stream may lack these messages",
			"stream", s.name, "journal", s.of.spool.dir, "messages", m.n, "from", m.first, "to", m.last, "error", m.err)
	}
}

// whole makes sure that the stream has these records, up to its newest. If a power cut has taken some from between, what is
// behind them is removed, to be written again in its order.
func (s *view) whole(ctx context.Context, numbers []uint64) error {
	if len(numbers) == 0 {
		return nil
	}
	found, err := s.isWhole(ctx, numbers)
	if found || err != nil {
		return err
	}
	there, older := map[uint64]uint64{}, false // sequences, by number
	for seq, last := s.at, uint64(0); seq > 0 && s.at-seq <= 2*uint64(len(numbers))+viewBatch && (last == 0 || last >= numbers[0]); seq-- {
		m, err := streams.ReadOne(ctx, s.stream, seq)
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		if last = s.numberOf(m); last < numbers[0] {
			older = true
		} else {
			there[last] = seq
		}
	}
	if !older { // what is missing at the beginning had to make room
		numbers = numbers[max(slices.IndexFunc(numbers, func(n uint64) bool { return there[n] > 0 }), 0):]
	}
	gap := slices.IndexFunc(numbers, func(n uint64) bool { return there[n] == 0 })
	if gap < 0 {
		return nil
	}
	s.of.log.Warn("messages are missing in the middle of a stream, as after a power cut; those behind them are written again, too", "stream", s.name)
	for n, seq := range there {
		if n > numbers[gap] {
			if err := s.stream.DeleteMsg(ctx, seq); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
				return err
			}
		}
	}
	s.newest = numbers[gap] - 1
	return nil
}

// isWhole reports whether the newest messages of the stream are these, one beside the other.
func (s *view) isWhole(ctx context.Context, numbers []uint64) (bool, error) {
	if uint64(len(numbers)) > s.at {
		return false, nil
	}
	from := s.at - uint64(len(numbers)) + 1
	m, err := streams.ReadOne(ctx, s.stream, from)
	if m == nil || err != nil || s.numberOf(m) != numbers[0] {
		return false, err
	}
	now, err := s.of.spool.store.js.Stream(ctx, s.name)
	if err != nil {
		return false, err
	}
	info, listed, err := streams.Detailed(ctx, now)
	if !listed || err != nil { // then each is looked at
		return false, err
	}
	return !slices.ContainsFunc(info.State.Deleted, func(seq uint64) bool { return seq > from && seq < s.at }), nil
}

// viewsOpened looks at the streams of the views, which have now what the journal has.
func (s *Store) viewsOpened(ctx context.Context) error {
	s.custody.behind = true
	for _, v := range s.spool.views.each() {
		stream, err := s.js.Stream(ctx, v.name)
		if err == nil {
			err = s.custody.compare(ctx, stream)
		}
		if err != nil {
			return err
		}
	}
	s.shares.count(ctx)
	return nil
}
