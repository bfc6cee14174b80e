package local

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// journal collects log records. Unless the test expects them, warnings fail it.
type journal struct {
	mu       sync.Mutex
	lines    []string
	warned   []string
	forgiven []string
	changed  chan struct{}
}

func newJournal(t *testing.T) *journal {
	j := &journal{changed: make(chan struct{}, 1)}
	t.Cleanup(func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, w := range j.warned {
			t.Errorf("logged: %s", w)
		}
		if t.Failed() {
			t.Log(strings.Join(j.lines, "\n"))
		}
	})
	return j
}

func (j *journal) log() *slog.Logger { return slog.New(j) }

func (j *journal) Enabled(context.Context, slog.Level) bool { return true }
func (j *journal) WithAttrs([]slog.Attr) slog.Handler       { return j }
func (j *journal) WithGroup(string) slog.Handler            { return j }

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += fmt.Sprintf(" %s=%v", a.Key, a.Value); return true })
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
	if r.Level >= slog.LevelWarn && !slices.ContainsFunc(j.forgiven, func(part string) bool { return strings.Contains(line, part) }) {
		j.warned = append(j.warned, line)
	}
	select {
	case j.changed <- struct{}{}:
	default:
	}
	return nil
}

// expect waits for a line that contains all parts, and forgives it.
func (j *journal) expect(t *testing.T, parts ...string) {
	t.Helper()
	deadline := time.After(10 * time.Second)
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
			t.Fatalf("not logged: %q; but:\n%s", parts, strings.Join(j.lines, "\n"))
		}
	}
}

func (j *journal) find(parts []string) bool {
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
func (j *journal) forgive(parts ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.forgiven = append(j.forgiven, parts...)
}

func (j *journal) count(part string) int {
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

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func subjects(t testing.TB) mapping.Subjects {
	s, err := mapping.NewSubjects("fleets")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// rig is a server with a connection and a store, started like the bridge does.
type rig struct {
	t        *testing.T
	dir      string
	journal  *journal
	server   *Server
	nc       *nats.Conn
	store    *Store
	subjects mapping.Subjects
}

func newRig(t *testing.T, things ...mapping.Thing) *rig {
	t.Helper()
	return newRigWith(t, ServerConfig{}, StoreConfig{Things: things})
}

func newRigWith(t *testing.T, server ServerConfig, store StoreConfig) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), journal: newJournal(t), subjects: subjects(t)}
	r.start(server, store)
	return r
}

func (r *rig) start(server ServerConfig, store StoreConfig) {
	r.t.Helper()
	server.StoreDir, server.Log, server.Subjects = r.dir, r.journal.log(), r.subjects
	if server.Listen == "" {
		server.Listen = "127.0.0.1:0"
	}
	if store.Things == nil {
		store.Things = []mapping.Thing{"pump"}
	}
	store.Subjects = r.subjects
	s, err := StartServer(server)
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
	if store.Intake, err = s.Connect("fleetbridge intake"); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(store.Intake.Close)
	if store.Working == nil {
		store.Working = s.Working
	}
	r.store = r.open(nc, store)
	if err := s.Listen(); err != nil {
		r.t.Fatal(err)
	}
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

func (r *rig) stop() {
	r.store.Close()
	r.nc.Close()
	r.server.Shutdown()
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
	m, err := nc.Request(subject, []byte(payload), 10*time.Second)
	if err != nil {
		r.t.Fatalf("publish on %s: %v", subject, err)
	}
	return string(m.Data)
}

// run starts a queue and stops it at the end of the test, or when stop is called.
func (r *rig) run(thing mapping.Thing, class mapping.Class) (q *Queue, stop func()) {
	r.t.Helper()
	q, err := r.store.Queue(testContext(r.t), thing, class)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				r.t.Errorf("queue: %v", err)
			}
		})
	}
	r.t.Cleanup(stop)
	return q, stop
}

// next waits for a delivery.
func next(t *testing.T, q *Queue) bridge.Delivery {
	t.Helper()
	d, ok := soon(q, 10*time.Second)
	if !ok {
		t.Fatal("no delivery")
	}
	return d
}

// soon takes a delivery if one comes in this time.
func soon(q *Queue, limit time.Duration) (d bridge.Delivery, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for _, d = range q.ready.take(ctx, 1) {
		ok = true
	}
	return d, ok
}

// eventually waits until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
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
	case <-time.After(10 * time.Second):
		t.Fatal("never stored")
	}
}
