package local

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// inflow hears from a stream's leader what it has stored, and gives it to the lanes.
//
// The stream publishes each message again when it is committed, on a subject of this bridge's (RePublish), with its sequence,
// and sequences have no holes. So there is no consumer, whose leader could step down and take with it what it had sent
// into the void; and a message that is missing is seen at the next one, or at a look a second later. Nobody knows of
// which lane it was. So in any doubt the lanes get nothing more, the leader is asked what the stream holds, and the lanes
// read on from there.
//
//	sure      a message that follows the last one goes to its lane
//	gap       one is missing: each lane that the stream has messages of reads behind what it has
//	restored  the connection was lost, or the stream gives a number out again: each lane reads all that is not removed,
//	          and recognizes what it has handed out. Nothing is removed meanwhile
type inflow struct {
	lanes *streamLanes
	class mapping.Class
	name  string // of the stream
	wake  chan struct{}
	begun atomic.Bool // the stream publishes to this bridge

	looked

	mu       sync.Mutex
	seen     uint64 // up to this sequence the lanes know all
	seenAt   time.Time
	unread   map[queueKey]bool // of these the stream may have messages, and there is no lane
	unlisted bool              // others may have some, too
	said     time.Time         // when a message of a Thing that is not configured was last spoken of
	sub      *nats.Subscription
	doubting
	counting
}

// counting is for the count of what the stream holds.
type counting struct {
	length subjectLength
	census census
}

// doubting is what is not sure of an inflow, and what was told meanwhile.
type doubting struct {
	doubt      doubt
	from, to   uint64           // what was told, without holes; 0: nothing
	tolds      map[*lane]uint64 // of that, the newest of each lane
	reconnects uint64           // of the connection, when there was no doubt
}

// looked is of the goroutine that looks.
type looked struct {
	missing uint64 // what the last look found that nobody had told
	back    int    // how often in a row the stream ended before what it had
}

type doubt int

const (
	sure doubt = iota
	gap
	restored
)

const (
	inflowLook  = time.Second // at what nobody has told
	inflowPause = 50 * time.Millisecond
	// A burst that the client holds while the lanes are busy; what is beyond it is dropped, and read later.
	inflowMessages, inflowBytes = 1 << 14, 32 << 20
)

// come is told of a stored message.
func (in *inflow) come(m *nats.Msg) {
	number, at, e, err := storedMessage(m)
	in.mu.Lock()
	defer in.mu.Unlock()
	if err != nil { // another bridge's word that it has taken over, or a program's headers hide the number
		in.raise(gap)
		return
	}
	if in.doubt == sure {
		switch {
		case in.lanes.store.nc.Stats().Reconnects != in.reconnects:
			in.raise(restored)
		case number <= in.seen && !at.After(in.seenAt): // the lanes have read it already
			return
		case number <= in.seen:
			in.raise(restored)
		case number > in.seen+1:
			in.raise(gap)
		}
	}
	in.length.tell(e.subject)
	of := subjectKey(e.subject, in.lanes.space)
	l := in.lanes.known(of)
	if l == nil {
		in.unread[of] = true
		in.stray(of)
	}
	if in.doubt != sure {
		if number != in.to+1 {
			in.from = number
		}
		if in.to = number; l != nil {
			in.tolds[l] = number
		}
		return
	}
	if in.seen, in.seenAt = number, later(in.seenAt, at); l != nil {
		l.put(number, e, 0)
	}
}

// raise notes a doubt. The lock is held.
func (in *inflow) raise(d doubt) {
	if in.doubt == sure {
		in.from, in.to = 0, 0
		clear(in.tolds)
	}
	in.doubt = max(in.doubt, d)
	flow.Signal(in.wake)
}

func (in *inflow) doubts(d doubt) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.raise(d)
}

// certain reports whether what the lanes know is what the stream has.
func (in *inflow) certain() bool {
	nc := in.lanes.store.nc
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.doubt == sure && nc.IsConnected() && nc.Stats().Reconnects == in.reconnects
}

// strayEvery is how often it is said that messages come which nobody sends.
const strayEvery = time.Minute

// stray says that messages of a Thing come that nobody has configured. The lock is held.
func (in *inflow) stray(of queueKey) {
	s := in.lanes.store
	if len(*s.things.Load()) <= maxListed || s.cfg.Shards > 0 || time.Since(in.said) < strayEvery {
		return // the stream takes those of configured ones only, or most are another bridge's
	}
	in.said = time.Now()
	in.lanes.log.Warn("messages come for a Thing that is not configured; they stay in the queue", "thing", wire.ThingOf(of.token), "queue", of.kind.String())
}

// run keeps the lanes true until ctx ends, or another bridge has taken over.
func (in *inflow) run(ctx context.Context) error {
	nc := in.lanes.store.nc
	status := nc.StatusChanged(nats.CONNECTED)
	defer nc.RemoveStatusListener(status)
	tick := time.NewTicker(inflowLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-in.wake:
		case <-status:
		case <-tick.C:
			if in.certain() {
				in.look(ctx)
			}
		}
		if err := in.settleDoubt(ctx); err != nil {
			return err
		}
	}
}

// settleDoubt asks the stream until there is no doubt, or ctx ends.
func (in *inflow) settleDoubt(ctx context.Context) error {
	s, failed := in.lanes.store, 0
	for pause := inflowPause; !in.certain(); pause = min(2*pause, inflowLook) {
		if s.nc.IsConnected() {
			// A question that goes down with a leader, or comes before there is one, is never answered.
			inner, cancel := context.WithTimeout(ctx, askTime*time.Duration(1+failed/8))
			err := in.resync(inner)
			cancel()
			switch {
			case ctx.Err() != nil:
				return nil
			case errors.Is(err, bridge.ErrTakenOver):
				return err
			case err == nil:
				s.found("reading stream "+in.name, "")
				pause, failed = inflowPause, 0
			default:
				if failed++; failed > 3 { // an election takes so long
					s.found("reading stream "+in.name, err.Error())
				}
			}
		}
		if s.nc.IsClosed() {
			return nats.ErrConnectionClosed
		}
		if flow.Sleep(ctx, pause) != nil {
			return nil
		}
	}
	return nil
}

// look asks the leader for what nobody has told. What is under way is there at the next look.
func (in *inflow) look(ctx context.Context) {
	in.mu.Lock()
	seen := in.seen
	in.mu.Unlock()
	if in.missing > seen {
		in.missing = 0
		in.doubts(gap)
		return
	}
	in.missing = 0
	ctx, cancel := context.WithTimeout(ctx, inflowLook)
	defer cancel()
	if m, err := in.lanes.store.stored(ctx, in.class, seen+1, in.lanes.space); err == nil {
		in.missing = m.Sequence
	}
}

// errBack says that a stream ends before what it had: it has lost its end, or the one that answers is no leader any more.
var errBack = errors.New("the stream has less than it had")

// backs is how often in a row a stream must say so.
const backs = 3

// resync asks the leader what the stream holds, and has the lanes read it.
func (in *inflow) resync(ctx context.Context) error {
	s := in.lanes.store
	reconnects := s.nc.Stats().Reconnects
	stream, err := s.js.Stream(ctx, in.name)
	if err != nil {
		return fmt.Errorf("stream %s: %w", in.name, err)
	}
	info := stream.CachedInfo()
	if !in.owns(info.Config) {
		return bridge.ErrTakenOver
	}
	// What comes after this sequence is told; what was stored before it is in the list, which is made later.
	newest, newestAt := info.State.LastSeq, info.State.LastTime
	in.mu.Lock()
	behind := newest < in.seen
	in.mu.Unlock()
	if in.back++; behind && in.back < backs {
		return fmt.Errorf("stream %s: %w", in.name, errBack)
	}
	in.back = 0
	in.length.begin()
	held, err := in.holding().list(ctx, in.length.most())
	if err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.unlisted = held == nil // then every lane looks what there is of it
	for of := range held {
		if in.lanes.known(of) == nil {
			in.unread[of] = true
		}
	}
	all := in.doubt == restored || behind || reconnects != in.reconnects
	in.lanes.each(in.class, func(l *lane) {
		switch holds := in.unlisted || held[l.of] > 0; {
		case holds && all:
			l.readAgain(newest)
		case holds:
			l.mu.Lock()
			l.readOn(newest)
			l.mu.Unlock()
		case all:
			l.empty(newest)
		}
	})
	for l, number := range in.tolds {
		l.tell(number)
	}
	if in.to > newest && in.from > newest+1 { // more is missing
		return nil
	}
	in.lanes.log.Debug("the lanes read on from what the stream holds", "stream", in.name, "from", in.seen, "to", max(newest, in.to), "again", all)
	in.seen, in.reconnects, in.doubt = max(newest, in.to), reconnects, sure
	if in.seenAt = later(in.seenAt, newestAt); behind {
		in.seenAt = newestAt
	}
	clear(in.tolds)
	return nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
