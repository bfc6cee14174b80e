// Package ownership has the shards of a cluster's bridge on NATS: the log in the bucket FLEETS_CLUSTER, from which each bridge
// learns what is its own, and fences, with which a stream takes writes from the owner only. What is to be done
// package cluster decides, without I/O.
//
// An Ownership follows the log and writes it. A Term is the time in which a shard is this bridge's. Whoever writes for the
// shard raises a Fence in each stream, in the name of the term, and writes and reads through it.
package ownership

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/cluster"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// Config says which bridge this is, and of which cluster.
type Config struct {
	Subjects mapping.Subjects
	Replicas int
	ID       string
	Run      string // no other run's
	Shards   int
	Beat     time.Duration
	Version  string
	Config   string        // digest of the configuration
	Grace    time.Duration // how long it keeps its Things when it does not reach the broker and others do; 0: for ever
	// Count is asked with each beat how many Things there are here, how many of them are connected, and whether the broker is
	// reached.
	Count func() (things, connected int, broker bool)
	// Marked is asked at the start when the log has nothing: which epoch is the newest that a marker in a stream names; 0: there
	// is no marker.
	Marked func(context.Context) (uint64, error)
	Log    *slog.Logger
}

// Ownership is the ownership log on NATS, as one bridge follows and writes it. What is to be done cluster.Bridge decides.
type Ownership struct {
	cfg    Config
	nc     *nats.Conn
	kv     jetstream.KeyValue
	stream jetstream.Stream
	began  time.Time
	terms  chan *Term
	proves chan struct{} // somebody waits for a proof
	leave  sync.Once
	leaves chan struct{} // closed by Leave

	acting  sync.Mutex // held while outputs are carried out, so in order
	term    map[int]*Term
	mu      sync.Mutex
	bridge  *cluster.Bridge
	changed chan struct{} // closed when something has happened
	fatal   error
	said    said
	fences  map[string]uint64 // writes refused for good, by stream
}

const (
	bucketCluster = "CLUSTER"
	keyShape      = "shape"
	keyMember     = "member."
	keyShard      = "shard."
	keyDrain      = "drain."
	keyShaping    = "shaping"
)

// shape is what can't change in a cluster's life.
type shape struct {
	Shards int `json:"shards"`
}

var (
	// ErrLost ends a term whose shard has another owner.
	ErrLost    = errors.New("another bridge owns the things")
	errEmptied = errors.New("the ownership log was removed or emptied")
	// ErrReleased ends a term whose shard is to be given away.
	ErrReleased = errors.New("the things go to another bridge")
)

// Stream is the name of the log's stream.
func Stream(s mapping.Subjects) string { return "KV_" + s.Name(bucketCluster) }

// Open makes the log if there is none, and fails when it has another shape.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Ownership, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.AnswerTime) // of several who make it at once not all are answered; see Shape
	defer cancel()
	js, err := wire.JetStream(nc)
	if err != nil {
		return nil, err
	}
	kv, err := streams.EnsureBucket(ctx, js, &jetstream.KeyValueConfig{Bucket: cfg.Subjects.Name(bucketCluster), Description: "which bridge owns which shard", History: 1, Replicas: max(cfg.Replicas, 1)})
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, Stream(cfg.Subjects))
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", kv.Bucket(), err)
	}
	if err := cfg.shaped(ctx, kv, stream); err != nil {
		return nil, err
	}
	return &Ownership{
		cfg: cfg, nc: nc, kv: kv, stream: stream, began: time.Now(), terms: make(chan *Term, cfg.Shards), term: map[int]*Term{},
		proves: make(chan struct{}, 1), leaves: make(chan struct{}), changed: make(chan struct{}), fences: map[string]uint64{},
		bridge: cluster.New(cluster.Config{ID: cfg.ID, Incarnation: cfg.Run, Shards: cfg.Shards, Beat: cfg.Beat, Grace: cfg.Grace}),
	}, nil
}

// shaped compares the log's shape, or gives one to a log that is new.
func (c Config) shaped(ctx context.Context, kv jetstream.KeyValue, log jetstream.Stream) error {
	entry, err := kv.Get(ctx, keyShape)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		if err := c.above(ctx, log); err != nil {
			return fmt.Errorf("bucket %s: %w", kv.Bucket(), err)
		}
		value, _ := json.Marshal(shape{c.Shards})
		if _, err := kv.Create(ctx, keyShape, value); err == nil || !errors.Is(err, jetstream.ErrKeyExists) {
			return err
		}
		entry, err = kv.Get(ctx, keyShape)
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %s: %w", kv.Bucket(), keyShape, err)
	}
	have := shape{}
	if err := json.Unmarshal(entry.Value(), &have); err != nil || have.Shards != c.Shards {
		return fmt.Errorf("cluster.shards is %d, but the cluster was made with %s: write that, as it never changes, or set nats.prefix to another name", c.Shards, entry.Value())
	}
	return nil
}

// unheard is more than the epochs that a log gives while none of their markers is put.
const unheard = 1 << 32

// above has a new log go on above the epochs of the one that was there before: that one was removed, or lost with its servers,
// but its markers stand in the streams, and no older epoch may write there. Several bridges may do so at once: they
// take the same number, as no marker is put before there is a shape.
func (c Config) above(ctx context.Context, log jetstream.Stream) error {
	newest, err := c.Marked(ctx)
	if err != nil {
		return err
	}
	info, err := log.Info(ctx) // after the markers: another bridge may have put its own by now
	if err != nil || info.State.LastSeq >= newest {
		return err
	}
	c.Log.Warn("the ownership log was removed or lost, as the streams have markers of its epochs; a new one begins above them", "stream", info.Config.Name, "newest", newest)
	return log.Purge(ctx, jetstream.WithPurgeSequence(newest+unheard))
}

// Run follows the log and beats until ctx ends, and then returns nil; an error says that the bridge can't be of this
// cluster.
func (o *Ownership) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	soon := make(chan struct{}, 1)
	defer o.hear(soon)()
	work.Go(func() { o.follow(ctx, soon) })
	tick := time.NewTicker(o.cfg.Beat)
	defer tick.Stop()
	reached := o.nc.StatusChanged(nats.CONNECTED)
	defer o.nc.RemoveStatusListener(reached)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C: // one that was missed is gone
			o.note()
			o.step(cluster.Tick{})
			o.say()
		case <-reached:
			o.step(cluster.Reached{})
		case <-o.proves:
			o.step(cluster.Prove{})
			flow.Signal(soon)
		}
		if err := o.failure(); err != nil {
			return err
		}
	}
}

func (o *Ownership) note() {
	m := cluster.Member{Version: o.cfg.Version, Config: o.cfg.Config}
	m.Things, m.Connected, m.Broker = o.cfg.Count()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bridge.Note(m)
}

// fail ends Run.
func (o *Ownership) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fatal = cmp.Or(o.fatal, err)
}

func (o *Ownership) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fatal
}

// now is the bridge's own time, which a wall clock that is set does not change.
func (o *Ownership) now() cluster.Time { return time.Since(o.began) }

// step has the bridge decide, and carries out what it decides.
func (o *Ownership) step(in any) {
	o.acting.Lock()
	defer o.acting.Unlock()
	o.mu.Lock()
	outs := o.bridge.Step(o.now(), in)
	close(o.changed)
	o.changed = make(chan struct{})
	o.mu.Unlock()
	for _, out := range outs {
		switch out := out.(type) {
		case cluster.Write:
			o.write(out)
		case cluster.Start:
			t := o.NewTerm(out.Shard, out.Epoch)
			o.term[out.Shard] = t
			o.terms <- t
		case cluster.Stop:
			t := o.term[out.Shard]
			if out.Lost {
				t.end(ErrLost)
			} else {
				t.end(ErrReleased)
			}
		case cluster.Reconnect:
			if !o.nc.IsConnected() { // it does what it can
				continue
			}
			o.cfg.Log.Warn("the ownership log does not answer, another NATS server is tried", "url", o.nc.ConnectedUrlRedacted())
			if err := o.nc.ForceReconnect(); err != nil {
				o.cfg.Log.Debug("cannot reconnect", "error", err)
			}
		case cluster.Exit:
			o.fail(fmt.Errorf("cluster.id %q is another bridge's too, which runs now: give each bridge an id of its own", o.cfg.ID))
		}
	}
}

// write puts a record on its way. Whether it was stored the log itself says.
func (o *Ownership) write(w cluster.Write) {
	key, value := keyShard+strconv.Itoa(w.Shard), any(w.Owner)
	if w.Member != nil {
		key, value = keyMember+mapping.Token(o.cfg.ID), w.Member
	}
	m := nats.NewMsg("$KV." + o.cfg.Subjects.Name(bucketCluster) + "." + key)
	m.Data, _ = json.Marshal(value)
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(w.Expect, 10))
	if err := o.nc.PublishMsg(m); err != nil {
		o.cfg.Log.Debug("cannot write into the ownership log", "key", key, "error", err)
	}
}

// looks is how often in a beat the log is looked at.
const looks = 4

// follow tells the bridge what the log has. It asks for all that is newest, any replica, a few times in a beat, and at once when
// there should be something new: so it depends on no consumer, which may be on a server that is gone.
func (o *Ownership) follow(ctx context.Context, soon <-chan struct{}) {
	most := o.cfg.Beat / looks
	pause := most
	last, failing, leaves, empty := uint64(0), false, o.leaves, o.now()
	for ctx.Err() == nil {
		upTo, err := o.look(ctx, last)
		if !errors.Is(err, errEmptied) {
			empty = o.now()
		} else if o.now()-empty > o.cfg.Beat { // a leader that was just elected may have to read
			o.fail(fmt.Errorf("bucket %s: %w: it does not have this bridge's record any more; start the bridge again, which claims its things anew", o.kv.Bucket(), errEmptied))
		}
		if failing != (err != nil) {
			failing = !failing
			o.cfg.Log.Debug("the ownership log is looked at", "error", err)
		}
		if first := last == 0; upTo > last {
			if last = upTo; first {
				o.step(cluster.Told{})
			}
		}
		if leaves == nil {
			o.step(cluster.Prove{}) // others wait for the last beat
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, most)
		case <-soon:
			pause = most / 25
		case <-leaves:
			leaves, most = nil, most/5
			pause = most
		case <-ctx.Done():
		}
	}
}

// hear signals when a bridge writes whose a shard is, until it is called back: the log has that in a moment. It is a hint
// alone: who hears nothing looks all the same.
func (o *Ownership) hear(soon chan struct{}) (over func()) {
	sub, err := o.nc.Subscribe("$KV."+o.cfg.Subjects.Name(bucketCluster)+"."+keyShard+">", func(*nats.Msg) { flow.Signal(soon) })
	if err != nil {
		o.cfg.Log.Debug("cannot hear of what is written into the ownership log", "error", err)
		return func() {}
	}
	return func() { _ = sub.Unsubscribe() }
}

// look tells the bridge what is newer than a sequence, and returns how far the replica was that answered. Each record is
// the newest: an earlier one of the same key may never be seen. So whose the shards are is told first, and the bridge's
// own beat after it, as that one proves that they are; the others' beats come last, as they count from there.
func (o *Ownership) look(ctx context.Context, last uint64) (upTo uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, max(o.cfg.Beat, 500*time.Millisecond))
	defer cancel()
	space := "$KV." + o.cfg.Subjects.Name(bucketCluster) + "."
	found, upTo, err := streams.Newest(ctx, o.nc, Stream(o.cfg.Subjects), space+">")
	if err == nil && (upTo == 0 || upTo >= last) && o.emptied(ctx, found) {
		return 0, errEmptied
	}
	if err != nil || upTo <= last { // a replica that lags has nothing new
		return 0, err
	}
	var entries []cluster.Entry
	for _, m := range found {
		if m.Sequence > last {
			if e, ok := o.entry(strings.TrimPrefix(m.Subject, space), m); ok {
				entries = append(entries, e)
			}
		}
	}
	rank := func(e cluster.Entry) int {
		switch {
		case e.Member == nil:
			return 0
		case e.ID == o.cfg.ID:
			return 1
		}
		return 2
	}
	slices.SortFunc(entries, func(a, b cluster.Entry) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Seq, b.Seq))
	})
	for _, e := range entries {
		o.step(cluster.Seen{Entry: e})
	}
	return upTo, nil
}

// emptied reports whether the bridge's own record is not among what a replica has, and the leader does not have it, too.
func (o *Ownership) emptied(ctx context.Context, found []*jetstream.RawStreamMsg) bool {
	o.mu.Lock()
	joined := o.bridge.Joined()
	o.mu.Unlock()
	own := "$KV." + o.kv.Bucket() + "." + keyMember + mapping.Token(o.cfg.ID)
	if !joined || slices.ContainsFunc(found, func(m *jetstream.RawStreamMsg) bool { return m.Subject == own }) {
		return false
	}
	_, err := streams.Get(ctx, o.nc, Stream(o.cfg.Subjects), streams.Ask{Last: own})
	return errors.Is(err, jetstream.ErrMsgNotFound)
}

// entry reads what the log has. What is no record of the cluster's is not looked at.
func (o *Ownership) entry(key string, m *jetstream.RawStreamMsg) (e cluster.Entry, ok bool) {
	e = cluster.Entry{Seq: m.Sequence, Removed: m.Header.Get(wire.HeaderOperation) != ""}
	var value any
	if id, is := strings.CutPrefix(key, keyMember); is {
		e.ID, e.Member, value = id, &cluster.Member{}, &e.Member
	} else if id, is := strings.CutPrefix(key, keyDrain); is {
		e.ID, e.Drain, value = id, &cluster.Drain{}, &e.Drain
	} else if p, is := strings.CutPrefix(key, keyShard); is {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 {
			return e, false
		}
		e.Shard, e.Owner, value = n, &cluster.Shard{}, &e.Owner
	} else {
		return e, false
	}
	if e.ID != "" {
		id, err := mapping.Untoken(e.ID)
		if err != nil {
			return e, false
		}
		e.ID = id
	}
	if err := json.Unmarshal(m.Data, value); err != nil && !e.Removed {
		o.cfg.Log.Warn("a record of the ownership log can't be read", "key", key, "error", err)
		return e, false
	}
	return e, true
}

// verified returns when the ownership is proved that holds after this call, or when ctx ends.
func (o *Ownership) verified(ctx context.Context, shard int) error {
	since := o.now()
	again := time.NewTicker(o.cfg.Beat / 4)
	defer again.Stop()
	for {
		o.mu.Lock()
		proved, changed := o.bridge.Verified(shard, since), o.changed
		o.mu.Unlock()
		if proved {
			return nil
		}
		flow.Signal(o.proves)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-again.C:
		}
	}
}

// ShardOf is the shard of a Thing.
func (o *Ownership) ShardOf(t mapping.Thing) int {
	return cluster.Of(mapping.Token(string(t)), o.cfg.Shards)
}

// Owner is services.Peers.
func (o *Ownership) Owner(t mapping.Thing) (run string, mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, lives := o.bridge.Owner(o.ShardOf(t), o.now())
	if !lives {
		return "", false
	}
	return s.Incarnation, s.Incarnation == o.cfg.Run
}

// Claimed waits until a shard is this bridge's. Stopped has to follow, sooner or later.
func (o *Ownership) Claimed() <-chan *Term { return o.terms }

// Leave gives away what there is, and claims nothing more. Left waits until the log says so.
func (o *Ownership) Leave() {
	o.step(cluster.Leave{})
	o.leave.Do(func() { close(o.leaves) })
}

// Left waits until nothing is this bridge's any more and others know that it leaves, or ctx ends.
func (o *Ownership) Left(ctx context.Context) error {
	for {
		o.mu.Lock()
		released, changed := o.bridge.Released() || !o.bridge.Joined(), o.changed
		o.mu.Unlock()
		if released {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
