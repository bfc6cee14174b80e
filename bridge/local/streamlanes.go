package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// streamLanes are the lanes of an external server: the keeper is the two streams that programs publish into. An inflow for
// each brings what is stored; what a lane has no room for it reads later; and what is settled is removed from the stream,
// lane by lane, always all up to the lane's floor. So what a kill leaves is the end of each lane, and comes again in order.
//
// The streams publish to one bridge, the last that has taken lanes over. Who has been that before learns it and ends. In a
// cluster they publish to all its bridges, and each keeps what is of lanes that it has.
type streamLanes struct {
	*house
	store *Store
	space string // of all lanes, "fleets.up.>"
	owner string // marks the subject on which the streams publish to this bridge, or to its cluster
	flows [len(mapping.Classes)]*inflow
	sweep sweep
	reads chan struct{} // a place for each read that may be under way
	drops chan struct{} // the same for what removes

	beginning sync.Mutex
	begun     bool
	stop      context.CancelFunc
	work      sync.WaitGroup
}

const (
	// asksAtOnce bounds how many questions of a sort all lanes together have open.
	asksAtOnce = 16
	// askTime is how long an answer is waited for: one that a leader that steps down has taken with it never comes.
	askTime = 2 * time.Second
	// beginTime is how long the first of many messages is waited for: a replica that stands still gives none. The leader is
	// asked then.
	beginTime = askTime / 2
)

func newStreamLanes(s *Store) *streamLanes {
	u := &streamLanes{store: s, space: s.cfg.Subjects.Space(mapping.SpaceUp), owner: nuid.Next(), reads: make(chan struct{}, asksAtOnce), drops: make(chan struct{}, asksAtOnce), stop: func() {}}
	if s.cfg.Shards > 0 {
		u.owner = "=cluster" // no nuid
	}
	u.house = newHouse(u, s.cfg.Subjects, s.cfg.window(), s.log)
	u.sweep = sweep{lanes: u, due: map[*lane]*owed{}, wake: make(chan struct{}, 1)}
	for _, class := range mapping.Classes {
		u.flows[class] = &inflow{lanes: u, class: class, name: s.cfg.Subjects.Name(wire.UpStream(class)), wake: make(chan struct{}, 1),
			doubting: doubting{doubt: restored, tolds: map[*lane]uint64{}}, unread: map[queueKey]bool{}, counting: counting{census: census{turn: make(chan struct{}, 1)}}}
	}
	return u
}

// told is where a stream publishes to this bridge.
func (in *inflow) told() string {
	return fmt.Sprintf("_%s.stored.%s.%s.>", in.lanes.subjects.Prefix(), in.lanes.owner, in.class)
}

// owns reports whether a stream publishes to this bridge.
func (in *inflow) owns(c jetstream.StreamConfig) bool {
	return c.RePublish != nil && c.RePublish.Destination == in.told()
}

// TakeOver is bridge.Lanes.
func (s *Store) TakeOver(ctx context.Context, t mapping.Thing) (bridge.ThingLanes, error) {
	return s.lanes.take(ctx, t)
}

func (u *streamLanes) take(ctx context.Context, t mapping.Thing) (*TakenLanes, error) {
	if err := u.begin(ctx); err != nil {
		return &TakenLanes{house: u.house}, err
	}
	for _, k := range mapping.Kinds {
		u.flows[k.Class()].add(keyOf(t, k))
	}
	return u.takeOver(t), nil
}

// add makes a lane, if it is not there.
func (in *inflow) add(of queueKey) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if l := in.lanes.known(of); l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.feed == nil { // another bridge may have removed what was told meanwhile
			l.told = 0
		}
		return
	}
	l := in.lanes.lane(of)
	l.mu.Lock()
	defer l.mu.Unlock()
	if in.unread[of] || in.unlisted {
		delete(in.unread, of)
		l.stored = max(in.seen, in.to, 1)
		return
	}
	l.floor, l.swept, l.stored = in.seen, in.seen, in.seen
}

// each calls f for every lane of a class.
func (u *streamLanes) each(c mapping.Class, f func(*lane)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for of, l := range u.lanes {
		if of.kind.Class() == c {
			f(l)
		}
	}
}

// begin has the streams publish to this bridge, once.
func (u *streamLanes) begin(ctx context.Context) error {
	u.beginning.Lock()
	defer u.beginning.Unlock()
	if u.begun {
		return nil
	}
	for _, in := range u.flows {
		if err := in.begin(ctx); err != nil {
			return err
		}
	}
	u.begun = true
	ctx, u.stop = context.WithCancel(context.Background())
	for _, in := range u.flows {
		u.work.Go(func() {
			if err := in.run(ctx); err != nil {
				u.end(err)
			}
		})
	}
	u.work.Go(func() { u.sweep.run(ctx) })
	return nil
}

func (in *inflow) begin(ctx context.Context) error {
	s := in.lanes.store
	if in.sub == nil {
		sub, err := s.nc.Subscribe(in.told(), in.come)
		if err != nil {
			return fmt.Errorf("hearing of what is stored: %w", err)
		}
		in.sub = sub
		_ = sub.SetPendingLimits(inflowMessages, inflowBytes)
	}
	before := ""
	err := s.reshape(ctx, in.class, func(is *jetstream.StreamInfo) {
		if r := is.Config.RePublish; r != nil && !in.owns(is.Config) {
			before = r.Destination
		}
		is.Config.RePublish = &jetstream.RePublish{Source: in.lanes.space, Destination: in.told()}
	})
	if err != nil {
		return err
	}
	if before != "" { // who hears of nothing more looks why
		_ = s.nc.Publish(strings.TrimSuffix(before, ">")+"over", nil)
	}
	in.begun.Store(true)
	return in.resync(ctx)
}

// close ends all.
func (u *streamLanes) close() {
	u.beginning.Lock()
	defer u.beginning.Unlock()
	u.stop()
	for _, in := range u.flows {
		if in.sub != nil {
			_ = in.sub.Unsubscribe()
		}
	}
	u.work.Wait()
}

// What follows makes a keeper of the streams.

func (u *streamLanes) sequence(number uint64, _ *entry) uint64 { return number }

func (u *streamLanes) missed(*lane, misses) {} // see Sift

// filter are the subjects of a lane.
func (u *streamLanes) filter(l *lane) string { return laneFilter(u.space, l.of) }

// ask waits for its turn to ask the server something, and does it.
func (u *streamLanes) ask(ctx context.Context, turn chan struct{}, f func(ctx context.Context) error) error {
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-turn }()
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return f(ctx)
}

// few is how many messages of a lane are asked for one by one. For a batch a server counts what matches, and looks at each
// message of a file for that.
const few = 4

// read asks whoever is nearest for many messages. That may be a server that lags behind the leader: it gives the beginning
// of what there is. So the leader is asked for the first messages of a lane, and whether there are none.
func (u *streamLanes) read(ctx context.Context, l *lane, after uint64, times int) (out []laneMessage, err error) {
	err = u.ask(ctx, u.reads, func(ctx context.Context) error {
		if after > 0 && times > few {
			if out = u.readMany(ctx, l, after); len(out) > 0 {
				return nil
			}
		}
		m, err := u.store.stored(ctx, l.of.kind.Class(), after+1, u.filter(l))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err == nil {
			out = []laneMessage{{number: m.Sequence, entry: &entry{subject: m.Subject, received: m.Time, trace: wire.TraceOf(m.Header), payload: m.Data}}}
		}
		return err
	})
	if err != nil {
		u.log.Debug("a lane can't be read now, trying again", "thing", l.thing(), "queue", l.of.kind.String(), "error", err)
	}
	return out, err
}

// readMost is how many messages are asked for at a time.
const readMost = 256

// readMany returns what comes of a batch, without holes. A server before 2.11 gives one message.
func (u *streamLanes) readMany(ctx context.Context, l *lane, after uint64) (out []laneMessage) {
	inbox := u.store.nc.NewInbox()
	sub, err := u.store.nc.SubscribeSync(inbox)
	if err != nil {
		return nil
	}
	defer func() { _ = sub.Unsubscribe() }()
	request, _ := json.Marshal(map[string]any{"seq": after + 1, "next_by_subj": u.filter(l), "batch": readMost, "max_bytes": readBytes})
	if err := u.store.nc.PublishRequest("$JS.API.DIRECT.GET."+u.flows[l.of.kind.Class()].name, inbox, request); err != nil {
		return nil
	}
	begins, cancel := context.WithTimeout(ctx, beginTime)
	defer cancel()
	for before, next := "0", begins; ; next = ctx {
		m, err := sub.NextMsgWithContext(next)
		if err != nil {
			return out
		}
		number, _, e, err := storedMessage(m)
		if err != nil || number <= after { // the end, or nothing of that kind
			return out
		}
		switch batch := lastOf(m.Header, headerBatchBefore); batch {
		case before:
		case "":
			return append(out, laneMessage{number: number, entry: e})
		default: // something was lost on the way
			return out
		}
		out = append(out, laneMessage{number: number, entry: e})
		before = lastOf(m.Header, jetstream.SequenceHeader)
	}
}

// headerBatchBefore has the sequence of the message before in a batch, 0 for the first.
const headerBatchBefore = "Nats-Last-Sequence"

// look looks whether a stream publishes to this bridge, if it is one of the lanes'.
func (u *streamLanes) look(c jetstream.StreamConfig) {
	for _, in := range u.flows {
		if in.name == c.Name && in.begun.Load() && !in.owns(c) {
			in.doubts(gap)
		}
	}
}

// On an external server programs publish into the streams themselves, with header blocks of any bytes. The server appends
// to a block what it knows of a message: sequence, subject, time. To nats.go a block ends at its first empty line, so a
// program can write those itself and hide the server's. What may be hidden is not believed: the leader is asked for the
// message, and says in JSON what no header can change.

// errObscured says that a message may have more headers than can be read.
var errObscured = errors.New("the headers hide what the server has written behind them")

// storedMessage reads what a server sends of a stored message: republished, or got. A program may have set such headers,
// too; the server's own come behind them.
func storedMessage(m *nats.Msg) (number uint64, at time.Time, e *entry, err error) {
	if wire.Obscured(m, wire.ServersLeast) {
		return 0, at, nil, errObscured
	}
	if number, err = strconv.ParseUint(lastOf(m.Header, jetstream.SequenceHeader), 10, 64); err != nil {
		return 0, at, nil, err
	}
	if at, err = time.Parse(time.RFC3339Nano, lastOf(m.Header, jetstream.TimeStampHeaer)); err != nil {
		return 0, at, nil, err
	}
	return number, at, &entry{subject: lastOf(m.Header, jetstream.SubjectHeader), received: at, trace: wire.TraceOf(m.Header), payload: m.Data}, nil
}

func lastOf(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// stored reads the first message of a class from a sequence on, of a subject.
func (s *Store) stored(ctx context.Context, class mapping.Class, from uint64, subject string) (*jetstream.RawStreamMsg, error) {
	return streams.Get(ctx, s.nc, s.up[class].name(), streams.Ask{From: from, Next: subject})
}
