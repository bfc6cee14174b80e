package local

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// shares keeps one Thing's dead letters, or replies, from taking the others' room: before their stream is full and would
// forget the oldest of all, or take no more, the Thing with the most is cut down to its share, and loses its own oldest.
// How much each has is counted, and before something is cut counted again: letters also go by hand.
type shares struct {
	stream jetstream.Stream
	log    *slog.Logger
	token  func(subject string) string // the Thing's
	filter func(token string) string   // the subjects of a Thing
	cut    func(token string, gone int)
	limit  int64 // of the stream, in bytes; 0: none, and nothing is counted
	least  int64 // what a letter counts at least, so that there are no more than maxLetters
	things int   // that have a share each

	mu      sync.Mutex
	total   int64
	of      map[string]*lot // by the Thing's token
	pending int64           // bytes that are on their way to the stream
	stored  chan struct{}   // some of them have arrived
}

// lot is what one Thing has.
type lot struct {
	bytes int64
	sizes []int32 // of each letter, the newest last
}

const (
	// letterCost is what a letter takes beside subject, headers and payload.
	letterCost = 40
	// maxLetters is how many there may be: the server keeps half a kilobyte of memory for each that has a subject of its
	// own, which a program, or a broker, gives it for nothing.
	maxLetters = 128 << 10
	// shortSubject is what a subject may have to count once: the server keeps a long one several times.
	shortSubject = 128
)

// weight is what a letter counts that has so many bytes in all, and in its subject.
func (s *shares) weight(bytes, subject int) int64 {
	return max(int64(min(bytes, 1<<30))+letterCost, min(s.least*int64(1+subject/shortSubject), 1<<30))
}

func (s *Store) newShares(ctx context.Context, dead jetstream.Stream) (*shares, error) {
	out, err := s.sharesOf(ctx, dead.CachedInfo().Config.Name, s.cfg.Up)
	if err != nil {
		return nil, err
	}
	prefix := s.cfg.Subjects.Prefix() + ".dead."
	out.token = func(subject string) string { return thingOfTail(strings.TrimPrefix(subject, prefix)) }
	out.filter = func(token string) string { return prefix + "*." + token + ".>" }
	out.cut = func(token string, gone int) {
		s.log.Warn("dead letters of a Thing have more than their share of the room; its oldest are removed", "thing", wire.ThingOf(token), "letters", gone,
			"mend", "look at them with fleetbridge dead ls, or raise nats.up.max_bytes")
	}
	return out, nil
}

// sharesOf divides a stream, which has so many bytes.
func (s *Store) sharesOf(ctx context.Context, name string, limit int64) (*shares, error) {
	out := &shares{
		log: s.log, limit: limit, least: min(limit*3/4/maxLetters, 1<<30), things: max(len(*s.things.Load()), 1),
		of: map[string]*lot{}, stored: make(chan struct{}, 1),
	}
	var err error
	if out.stream, err = s.js.Stream(ctx, name); err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	return out, nil
}

// count counts what is there at the start. A start goes on without.
func (s *shares) count(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit <= 0 {
		return
	}
	if err := s.recount(ctx); err != nil {
		s.log.Warn("the dead letters that are there can't be counted; until it is full their stream does not know whose they are", "error", err)
	}
}

// recount takes over what the stream holds. Nothing is on its way there. Only headers are read, one after the other: a
// list of all subjects may be larger than the server lets somebody wait for.
func (s *shares) recount(ctx context.Context) error {
	of, total := map[string]*lot{}, int64(0)
	pending, read, err := wire.ScanHeads(ctx, s.stream, jetstream.DeliverAllPolicy, func(m jetstream.Msg) {
		subject, h := m.Subject(), m.Headers()
		payload, _ := strconv.Atoi(h.Get(nats.MsgSize))
		h.Del(nats.MsgSize)
		n := s.weight(len(subject)+wire.Size(&nats.Msg{Header: h})+payload, len(subject))
		token := s.token(subject)
		if of[token] == nil {
			of[token] = &lot{}
		}
		of[token].add(int32(n))
		total += n
	})
	if err == nil && read < pending {
		err = fmt.Errorf("%d of %d letters were read", read, pending)
	}
	if err != nil {
		return err
	}
	for token := range s.of {
		if of[token] == nil {
			of[token] = &lot{}
		}
	}
	s.of, s.total = of, total
	return nil
}

// thingOfTail is the Thing's token in "up.pump.events.e".
func thingOfTail(tail string) string {
	_, rest, _ := strings.Cut(tail, ".")
	token, _, _ := strings.Cut(rest, ".")
	return token
}

func (s *shares) lot(token string) *lot {
	l := s.of[token]
	if l == nil {
		l = &lot{}
		s.of[token] = l
	}
	return l
}

func (l *lot) add(size int32) {
	l.sizes = append(l.sizes, size)
	l.bytes += int64(size)
}

// keep forgets all letters but the newest n.
func (l *lot) keep(n int) {
	newest := l.sizes[max(len(l.sizes)-n, 0):]
	*l = lot{}
	for _, size := range newest {
		l.add(size)
	}
}

// newest is how many of the newest letters have so many bytes together.
func (l *lot) newest(most int64) (n int) {
	for bytes := int64(0); n < len(l.sizes); n++ {
		if bytes += int64(l.sizes[len(l.sizes)-1-n]); bytes > most {
			break
		}
	}
	return n
}

// admit makes room for a letter of that weight. Whoever buries without end waits here for what is on its way.
func (s *shares) admit(ctx context.Context, token string, n int64) error {
	if s.limit <= 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.pending > 0 && (s.pending+n > s.limit/8 || s.over(n) && s.largest() != "") {
		s.mu.Unlock()
		select {
		case <-s.stored:
		case <-ctx.Done():
		}
		s.mu.Lock()
		if ctx.Err() != nil {
			flow.Signal(s.stored) // somebody else may wait, too
			return ctx.Err()
		}
	}
	if s.over(n) && s.largest() != "" {
		if err := s.trim(ctx, n); err != nil {
			s.log.Warn("cannot make room for dead letters; the oldest of all go", "error", err)
		}
	}
	s.pending += n
	s.total += n
	s.lot(token).add(int32(n))
	return nil
}

// over reports whether so many bytes more are more than the stream should hold.
func (s *shares) over(n int64) bool { return s.total+n > s.limit*3/4 }

// arrived is told that a letter is stored, or that it never will be.
func (s *shares) arrived(n int64) {
	if s.limit <= 0 {
		return
	}
	s.mu.Lock()
	s.pending -= n
	s.mu.Unlock()
	flow.Signal(s.stored)
}

// share is what each Thing may keep when there is no room for all.
func (s *shares) share() int64 { return s.limit * 3 / 4 / int64(max(s.things, len(s.of))) }

// largest is the Thing that has the most, if that is more than its share. The lock is held.
func (s *shares) largest() (token string) {
	most := s.share()
	for t, l := range s.of {
		if l.bytes > most && len(l.sizes) > 1 {
			token, most = t, l.bytes
		}
	}
	return token
}

// trim removes the oldest letters of those Things that have the most, until there is room for n bytes and some more, as
// counting is work. The lock is held, and nothing is on its way.
func (s *shares) trim(ctx context.Context, n int64) error {
	if err := s.recount(ctx); err != nil {
		return err
	}
	for s.over(n + s.limit/32) {
		token := s.largest()
		if token == "" {
			return nil
		}
		l := s.of[token]
		kept := max(l.newest(s.share()*3/4), 1)
		gone := len(l.sizes) - kept
		err := s.stream.Purge(ctx, jetstream.WithPurgeSubject(s.filter(token)), jetstream.WithPurgeKeep(uint64(kept)))
		if err != nil {
			return err
		}
		s.total -= l.bytes
		l.keep(kept)
		s.total += l.bytes
		s.cut(token, gone)
	}
	return nil
}
