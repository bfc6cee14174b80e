package local

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Queued counts the messages that wait for the cloud, of every configured Thing.
func (s *Store) Queued(ctx context.Context) (map[mapping.Thing]uint64, error) {
	queued, err := s.queued(ctx)
	if err != nil {
		return nil, err
	}
	return ofThings(queued, *s.things.Load()), nil
}

// ofThings picks Things out of counts by token.
func ofThings(queued map[string]uint64, things []mapping.Thing) map[mapping.Thing]uint64 {
	out := make(map[mapping.Thing]uint64, len(things))
	for _, t := range things {
		out[t] = queued[mapping.Token(string(t))]
	}
	return out
}

// Accepted counts the messages that programs handed over since Open, and those that were waiting then.
// It is what has been delivered, was a duplicate, is dead or waits.
func (s *Store) Accepted(ctx context.Context) (uint64, error) {
	var n uint64
	for class := range s.up {
		up := &s.up[class]
		own, err := s.js.Stream(ctx, up.name())
		if err != nil {
			return 0, fmt.Errorf("stream %s: %w", up.name(), err)
		}
		n += own.CachedInfo().State.LastSeq - up.before
	}
	return n, nil
}

// queued counts by the Thing's token.
func (s *Store) queued(ctx context.Context) (map[string]uint64, error) {
	out := map[string]uint64{}
	for _, class := range mapping.Classes {
		held, err := s.lanes.flows[class].count(ctx)
		if err != nil {
			return nil, err
		}
		for of, n := range held {
			out[of.token] += n
		}
	}
	return out, nil
}

// holding is what the stream of some lanes holds. A server lists all subjects of a stream in answers of up to 100,000, and
// closes the connection of whoever leaves 64 MiB unread; programs choose the subjects. So a list is asked for only if it
// is short whatever they chose. Otherwise the subjects come one after the other, and the lanes are counted one by one.
type holding struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	name  string // of the stream
	space string // of all lanes, "fleets.up.>"
}

const (
	listBytes = 16 << 20
	listCost  = 32 // of a subject in a list, beside its text
	// unseenSubject is what a subject may have in JSON that nobody has seen: the server's lines have 4 KiB, and JSON
	// writes some bytes as six.
	unseenSubject = 6 * 4096
)

// listable reports whether the list of a stream's subjects is short; none of them is longer.
func listable(state jetstream.StreamState, longest int) bool {
	n := float64(state.NumSubjects)
	return n*float64(longest+listCost) <= listBytes || n*listCost+6*float64(state.Bytes) <= listBytes
}

// jsonLength is at least what a subject has in JSON.
func jsonLength(subject string) (n int) {
	for i := range len(subject) {
		if c := subject[i]; c <= ' ' || c > '~' || strings.IndexByte(`"\<>&`, c) >= 0 {
			n += 5
		}
		n++
	}
	return n
}

// list counts the messages of each lane, if the list of subjects is short; nil: it is not.
func (h holding) list(ctx context.Context, longest int) (map[queueKey]uint64, error) {
	stream, err := h.js.Stream(ctx, h.name) // a handle of one's own: Info writes into it
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", h.name, err)
	}
	if !listable(stream.CachedInfo().State, longest) {
		return nil, nil
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(h.space))
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", h.name, err)
	}
	held := map[queueKey]uint64{}
	for subject, n := range info.State.Subjects {
		held[subjectKey(subject, h.space)] += n
	}
	return held, nil
}

// look finds the lanes that the stream has messages of, and the length of its longest subject.
func (h holding) look(ctx context.Context) (lanes map[queueKey]bool, longest int, err error) {
	stream, err := h.js.Stream(ctx, h.name)
	if err != nil {
		return nil, 0, fmt.Errorf("stream %s: %w", h.name, err)
	}
	lanes = map[queueKey]bool{}
	there, read, err := wire.ScanHeads(ctx, stream, jetstream.DeliverLastPerSubjectPolicy, func(m jetstream.Msg) {
		lanes[subjectKey(m.Subject(), h.space)] = true
		longest = max(longest, jsonLength(m.Subject()))
	})
	if err == nil && read < there {
		err = fmt.Errorf("%d of %d subjects were read", read, there)
	}
	if err != nil {
		err = fmt.Errorf("stream %s: %w", h.name, err)
	}
	return lanes, longest, err
}

// countEach counts the messages of some lanes.
func (h holding) countEach(ctx context.Context, lanes map[queueKey]bool) (map[queueKey]uint64, error) {
	held := map[queueKey]uint64{}
	for of := range lanes {
		n, err := streams.Count(ctx, h.nc, h.name, laneFilter(h.space, of))
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", h.name, err)
		}
		if n > 0 {
			held[of] = n
		}
	}
	return held, nil
}

// laneFilter are the subjects of a lane.
func laneFilter(space string, of queueKey) string {
	return strings.TrimSuffix(space, ">") + of.token + "." + of.kind.String() + ".>"
}

// subjectLength is what is known of the longest subject of a stream.
type subjectLength struct {
	mu      sync.Mutex
	longest int // in JSON, of those that were told
	known   bool
	looks   int // how often it began anew
}

// tell is told of a subject that the stream has now, too.
func (l *subjectLength) tell(subject string) {
	l.mu.Lock()
	l.longest = max(l.longest, jsonLength(subject))
	l.mu.Unlock()
}

// begin begins anew: of some subjects nobody may have told.
func (l *subjectLength) begin() (look int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.longest, l.known, l.looks = 0, false, l.looks+1
	return l.looks
}

// end says how long the others are that were there, or came, since begin.
func (l *subjectLength) end(look, longest int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if look == l.looks {
		l.longest, l.known = max(l.longest, longest), true
	}
}

// most is how long none is.
func (l *subjectLength) most() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known {
		return l.longest
	}
	return unseenSubject
}

// census is the last count that took some time.
type census struct {
	turn  chan struct{} // of who counts
	held  map[queueKey]uint64
	until time.Time // it is good enough
}

// censusRest is how much longer than it took a count is good enough.
const censusRest = 20

// count counts what the stream holds, by lane. With too many subjects for a list the count may be of some seconds ago.
func (in *inflow) count(ctx context.Context) (map[queueKey]uint64, error) {
	h := in.holding()
	if held, err := h.list(ctx, in.length.most()); held != nil || err != nil {
		return held, err
	}
	c := &in.census
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if time.Now().Before(c.until) {
		return maps.Clone(c.held), nil
	}
	began, look := time.Now(), in.length.begin()
	lanes, longest, err := h.look(ctx)
	if err != nil {
		return nil, err
	}
	in.length.end(look, longest)
	held, err := h.list(ctx, in.length.most())
	if held != nil || err != nil {
		return held, err
	}
	if held, err = h.countEach(ctx, lanes); err != nil {
		return nil, err
	}
	c.held, c.until = held, time.Now().Add(censusRest*time.Since(began))
	return maps.Clone(held), nil
}

func (in *inflow) holding() holding {
	s := in.lanes.store
	return holding{s.nc, s.js, in.name, in.lanes.space}
}
