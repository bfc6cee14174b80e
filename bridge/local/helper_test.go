package local

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/natstest"
	"fleetbridge/fleetsim"
	"fleetbridge/mapping"
)

func TestMain(m *testing.M) {
	fleetsim.Hurry()
	os.Exit(m.Run())
}

// logbook collects log records. Unless the test expects them, warnings fail it.
type logbook struct {
	mu       sync.Mutex
	lines    []string
	warned   []string
	forgiven []string
	changed  chan struct{}
}

func newJournal(t *testing.T) *logbook {
	j := &logbook{changed: make(chan struct{}, 1)}
	t.Cleanup(func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, w := range j.warned {
			t.Errorf("logged: %s", w)
		}
		if t.Failed() {
			t.Log(j.shown())
		}
	})
	return j
}

// shown is what a failed test prints of the journal.
func (j *logbook) shown() string {
	return fleetsim.Tail(slices.DeleteFunc(slices.Clone(j.lines), func(line string) bool {
		return !testing.Verbose() && strings.HasPrefix(line, "DEBUG")
	}))
}

func (j *logbook) log() *slog.Logger { return slog.New(j) }

func (j *logbook) Enabled(context.Context, slog.Level) bool { return true }
func (j *logbook) WithAttrs([]slog.Attr) slog.Handler       { return j }
func (j *logbook) WithGroup(string) slog.Handler            { return j }

func (j *logbook) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += fmt.Sprintf(" %s=%v", a.Key, a.Value); return true })
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
	if r.Level >= slog.LevelWarn && !slow(line) && !slices.ContainsFunc(j.forgiven, func(part string) bool { return strings.Contains(line, part) }) {
		j.warned = append(j.warned, line)
	}
	select {
	case j.changed <- struct{}{}:
	default:
	}
	return nil
}

// slow are lines about time that passed, as it does on a machine that is busy besides. If what was late never comes, the test that
// waits for it fails.
func slow(line string) bool {
	return strings.Contains(line, "took too long: ") || strings.Contains(line, "Readloop processing time: ") ||
		strings.Contains(line, "the store does not work") && strings.Contains(line, "context deadline exceeded")
}

// expect waits for a line that contains all parts, and forgives it.
func (j *logbook) expect(t *testing.T, parts ...string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		j.mu.Lock()
		found := j.find(parts)
		j.mu.Unlock()
		if found {
			return
		}
		select {
		case <-j.changed:
		case <-deadline:
			t.Fatalf("not logged: %q", parts) // the journal comes below
		}
	}
}

func (j *logbook) find(parts []string) bool {
	for _, line := range j.lines {
		if containsAll(line, parts) {
			kept := j.warned[:0]
			for _, w := range j.warned {
				if !containsAll(w, parts) {
					kept = append(kept, w)
				}
			}
			j.warned = kept
			return true
		}
	}
	return false
}

// forgive lets warnings pass that contain one of the parts, from now on.
func (j *logbook) forgive(parts ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.forgiven = append(j.forgiven, parts...)
}

// said are all lines so far.
func (j *logbook) said() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

func (j *logbook) count(part string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, l := range j.lines {
		if strings.Contains(l, part) {
			n++
		}
	}
	return n
}

func containsAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

const patience = natstest.Patience

func testContext(t *testing.T) context.Context {
	return natstest.Context(t)
}

func subjects(t testing.TB) mapping.Subjects {
	return natstest.Subjects(t)
}

// rig is a server with a connection and a store, started like the bridge does.
type rig struct {
	t       *testing.T
	dir     string
	journal *logbook
	server  *embedded.Server
	nc      *nats.Conn
	store   *Store
	spool   *Spool
	segment int64 // bytes of the journal's files; 0: 4 MiB
	// checkpoint is how long the streams are not synced; 0: as in earnest.
	checkpoint time.Duration
	interval   time.Duration // of syncs of telemetry; 0: there is none
	subjects   mapping.Subjects
}

func newRig(t *testing.T, things ...mapping.Thing) *rig {
	t.Helper()
	return newRigWith(t, embedded.Config{}, StoreConfig{Things: things})
}

func newRigWith(t *testing.T, server embedded.Config, store StoreConfig) *rig {
	t.Helper()
	return newRigOn(t, 0, server, store)
}

// newRelaxed is one that syncs telemetry at intervals, if that is wanted.
func newRelaxed(t *testing.T, relaxed bool) *rig {
	t.Helper()
	return newRigOn(t, intervalIf(relaxed), embedded.Config{}, StoreConfig{})
}

func newRigOn(t *testing.T, interval time.Duration, server embedded.Config, store StoreConfig) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), journal: newJournal(t), subjects: subjects(t), interval: interval}
	r.start(server, store)
	return r
}

func (r *rig) start(server embedded.Config, store StoreConfig) {
	r.t.Helper()
	server.StoreDir, server.Log, server.Subjects = r.dir, r.journal.log(), r.subjects
	if server.Listen == "" {
		server.Listen = "127.0.0.1:0"
	}
	if store.Things == nil {
		store.Things = []mapping.Thing{"pump"}
	}
	store.Subjects = r.subjects
	s, err := embedded.Start(server)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(s.Shutdown)
	nc, err := s.Connect("fleetbridge")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	r.server, r.nc = s, nc
	if err := s.Brake().Through(nc); err != nil {
		r.t.Fatal(err)
	}
	store.Embedded = true
	if store.Working == nil {
		store.Working = s.Working
	}
	r.store = r.open(nc, store)
	r.openSpool(SpoolConfig{Window: store.Window, Interval: r.interval, Accounts: len(server.Users) > 0})
	if err := s.Listen(); err != nil {
		r.t.Fatal(err)
	}
}

// openSpool opens the spool of the store.
func (r *rig) openSpool(c SpoolConfig) {
	r.t.Helper()
	var err error
	if c.Intake, err = r.server.ConnectIntake(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Intake.Close)
	c.Dir, c.Brake, c.Checkpoint = r.dir, r.server.Brake(), r.checkpoint
	if c.Segment == 0 {
		c.Segment = cmp.Or(r.segment, 4<<20)
	}
	if r.spool, err = r.store.OpenSpool(testContext(r.t), c); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.spool.Close)
}

func (r *rig) open(nc *nats.Conn, cfg StoreConfig) *Store {
	r.t.Helper()
	cfg.Subjects = r.subjects
	store, err := Open(testContext(r.t), nc, cfg, r.journal.log())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(store.Close)
	return store
}

// seen returns when programs can read all that is stored.
func (r *rig) seen() {
	r.t.Helper()
	if r.store.spool == nil {
		return
	}
	if err := r.store.spool.views.caughtUp(testContext(r.t)); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "the bucket has the shadow documents", r.store.spool.shadows.settled)
}

// up are the lanes: the spool's, or with an external server the store's.
func (r *rig) up() bridge.Lanes {
	if r.spool == nil {
		return r.store
	}
	return r.spool
}

// intervalIf is an interval of syncs, or none.
func intervalIf(relaxed bool) time.Duration {
	if relaxed {
		return time.Second
	}
	return 0
}

func (r *rig) stop() {
	r.spool.Close()
	r.store.Close()
	r.nc.Close()
	r.server.Shutdown()
}

// stopJetStream ends JetStream under the programs, until what it returns is called.
func (r *rig) stopJetStream() (start func()) {
	r.t.Helper()
	config := *r.server.NATS().JetStreamConfig()
	config.StoreDir = r.dir
	if err := r.server.NATS().ShutdownJetStream(); err != nil {
		r.t.Fatal(err)
	}
	return func() {
		r.t.Helper()
		if err := r.server.NATS().EnableJetStream(&config); err != nil {
			r.t.Fatal(err)
		}
	}
}

// program connects as a program does.
func (r *rig) program(options ...nats.Option) *nats.Conn {
	r.t.Helper()
	nc, err := nats.Connect(r.server.URL(), append(options, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	return nc
}

// subscribe listens as a program does, from now on.
func (r *rig) subscribe(subject string) *nats.Subscription {
	r.t.Helper()
	nc := r.program()
	sub, err := nc.SubscribeSync(subject)
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return sub
}

// publish stores a message as a program does, and returns what the request was answered with.
func (r *rig) publish(nc *nats.Conn, subject, payload string) string {
	r.t.Helper()
	m, err := nc.Request(subject, []byte(payload), patience)
	if err != nil {
		r.t.Fatalf("publish on %s: %v", subject, err)
	}
	return string(m.Data)
}

// taking is a feed that a test runs.
type taking struct {
	*feed
	lanes *TakenLanes
}

func (q *taking) Flush(ctx context.Context) error { return q.lanes.Flush(ctx) }

// run takes a Thing's lanes over, to take of one kind, and stops them at the end of the test, or when stop is called.
func (r *rig) run(thing mapping.Thing, kind mapping.Kind) (q *taking, stop func()) {
	r.t.Helper()
	lanes := r.spool.takeOver(thing)
	return take(r.t, lanes, kind)
}

// run is the same on an external server.
func (s *Store) run(t *testing.T, thing mapping.Thing, kind mapping.Kind) (q *taking, stop func()) {
	t.Helper()
	lanes, err := s.lanes.take(testContext(t), thing)
	if err != nil {
		t.Fatal(err)
	}
	return take(t, lanes, kind)
}

func take(t *testing.T, lanes *TakenLanes, kind mapping.Kind) (q *taking, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- lanes.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("queue: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return &taking{lanes.feeds[kind], lanes}, stop
}

// next waits for a delivery.
func next(t *testing.T, q interface{ taken() *tray }) bridge.Delivery {
	t.Helper()
	d, ok := soon(q, patience)
	if !ok {
		t.Fatal("no delivery")
	}
	return d
}

// soon takes a delivery if one comes in this time.
func soon(q interface{ taken() *tray }, limit time.Duration) (d bridge.Delivery, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for _, d = range q.taken().take(ctx, 1) {
		ok = true
	}
	return d, ok
}

// eventually waits until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	inTime(t, what, 5*time.Millisecond, f)
}

// inTime does the same for what costs something to ask, so that it is not asked all the time.
func inTime(t *testing.T, what string, every time.Duration, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-tick.C
	}
}

// send stores a message with a sink and waits until that is done.
func send(t *testing.T, f func(ctx context.Context, done func(error)) error) {
	t.Helper()
	done := make(chan error, 1)
	if err := f(testContext(t), func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("never stored")
	}
}

func (f *feed) taken() *tray { return &f.ready }

// expect takes and settles what has these payloads.
func expect(t *testing.T, q interface{ taken() *tray }, want ...string) {
	t.Helper()
	for _, w := range want {
		d := next(t, q)
		if string(d.Payload) != w {
			t.Fatalf("%s, want %s", d.Payload, w)
		}
		d.Settle()
	}
}
