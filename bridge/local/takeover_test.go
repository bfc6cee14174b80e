package local

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/race"
	"fleetbridge/mapping"
)

// unpack writes an archive of testdata into a directory. streams-store.tgz is a store as the last version without a journal
// left it at a kill: no broker, and these published, in this order, by turns of the Things where there are two:
//
//	pump, com.acme fan   events.x 0 to 4, without timestamp
//	pump                 shadow.update with traceparent; commands.e1.response with a message id; commands.e2.response
//	gone                 jobs.get
//	pump                 events.door=2Eopen, with timestamp
func unpack(t *testing.T, name, dir string) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plain, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for files := tar.NewReader(plain); ; {
		h, err := files.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o700)
		case tar.TypeReg:
			var content []byte
			if content, err = io.ReadAll(files); err == nil {
				err = os.WriteFile(path, content, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestStoreOfAnOlderVersion: what its streams hold is moved into the journal, and they are gone.
func TestStoreOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, dir: t.TempDir(), journal: newJournal(t), subjects: subjects(t)}
	unpack(t, "streams-store.tgz", r.dir)
	things := StoreConfig{Things: []mapping.Thing{"pump", "com.acme fan"}}
	r.start(embedded.Config{}, things)
	r.journal.expect(t, "WARN messages of a Thing that is not configured", "thing=gone", "messages=1")
	for _, name := range []string{"FLEETS_UP_CONTROL", "FLEETS_UP_TELEMETRY"} {
		if _, err := r.store.js.Stream(testContext(t), name); !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n, err := r.spool.Accepted(testContext(t)); n != 15 || err != nil {
		t.Errorf("%d were waiting, %v", n, err)
	}
	answer := r.publish(r.program(), "fleets.up.pump.events.x", "new")
	events, stop := r.run("pump", mapping.Events)
	stamp := int64(0)
	for i := range 5 {
		d := next(t, events)
		if want := fmt.Sprintf(`{"eventType":"x","severity":"info","data":{"n":%d}}`, i); string(d.Payload) != want || d.Sequence != uint64(2*i+1) || d.Stamp <= stamp || d.Received.Year() != 2026 {
			t.Errorf("event %d: %+v", i, d.Message)
		}
		stamp = d.Stamp
		d.Settle()
	}
	if d := next(t, events); d.Address.ID != "door.open" || d.Stamp != 0 || d.Sequence != 12 {
		t.Errorf("%+v", d.Message)
	} else {
		d.Settle()
	}
	if d := next(t, events); string(d.Payload) != "new" || d.Sequence <= 12 || !strings.Contains(answer, fmt.Sprintf(`"seq":%d`, d.Sequence)) {
		t.Errorf("%+v, answered %s", d.Message, answer)
	}
	if d := next(t, events.lanes.feeds[mapping.Shadow]); d.Trace.Parent != "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" || d.Sequence != 11 {
		t.Errorf("%+v", d.Message)
	}
	for i, id := range []string{"e1", "e2"} {
		if d := next(t, events.lanes.feeds[mapping.Commands]); d.Address.ID != id || d.Sequence != uint64(i+1) {
			t.Errorf("%+v", d.Message)
		}
	}
	if is, err := r.spool.Pending(testContext(t), mapping.Address{Thing: "pump", Channel: mapping.CommandResponse, ID: "e2"}); !is || err != nil {
		t.Errorf("e2 is not pending, %v", err)
	}
	stop()
	r.stop()
	r.journal.forgive("not configured")
	r.start(embedded.Config{}, things)
	events, _ = r.run("pump", mapping.Events)
	last := next(t, events).Sequence
	r.publish(r.program(), "fleets.up.pump.events.x", "newer")
	if d := next(t, events); d.Sequence <= last {
		t.Errorf("after %d comes %d", last, d.Sequence)
	}
}

// failingFS is a disk that takes only so many syncs.
type failingFS struct {
	journal.FS
	left atomic.Int64
}

type failingFile struct {
	journal.File
	fs *failingFS
}

var errDisk = errors.New("input/output error")

func (f *failingFS) wrap(file journal.File, err error) (journal.File, error) {
	if err != nil {
		return nil, err
	}
	return failingFile{file, f}, nil
}

func (f *failingFS) Create(name string, size int64) (journal.File, error) {
	return f.wrap(f.FS.Create(name, size))
}
func (f *failingFS) Open(name string) (journal.File, error) { return f.wrap(f.FS.Open(name)) }

func (f failingFile) Sync() error {
	if f.fs.left.Add(-1) < 0 {
		return errDisk
	}
	return f.File.Sync()
}

// TestTakeoverIsKilled: at whichever write the move ends, the next start goes on from there, and every message comes once
// and in order. Ids that are young enough are known.
func TestTakeoverIsKilled(t *testing.T) {
	t.Parallel()
	const n, size = 500, 1600 // several groups of the move
	whole := t.TempDir()
	func() {
		r := &rig{t: t, dir: t.TempDir(), journal: newJournal(t), subjects: subjects(t)}
		s, err := embedded.Start(embedded.Config{Listen: "127.0.0.1:0", StoreDir: r.dir, Log: r.journal.log(), Subjects: r.subjects})
		if err != nil {
			t.Fatal(err)
		}
		nc, err := s.Connect("test")
		if err != nil {
			t.Fatal(err)
		}
		js := stream(t, nc)
		for name, subjects := range map[string][]string{"FLEETS_UP_TELEMETRY": {"fleets.up.*.events.>"}, "FLEETS_UP_CONTROL": {"fleets.up.*.jobs.>"}} {
			if _, err := js.CreateStream(testContext(t), jetstream.StreamConfig{Name: name, Subjects: subjects, Retention: jetstream.WorkQueuePolicy}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range n {
			m := nats.NewMsg("fleets.up.pump.events.x")
			m.Data = fmt.Appendf(nil, "%d %0*d", i, size, 0)
			if i%100 == 7 {
				m.Header.Set(jetstream.MsgIDHeader, wire.ShortID(fmt.Sprintf("id-%d fleets.up.pump.events.x", i)))
			}
			if _, err := js.PublishMsgAsync(m); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := js.Publish(testContext(t), "fleets.up.pump.jobs.get", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		<-js.PublishAsyncComplete()
		up, err := js.Stream(testContext(t), "FLEETS_UP_TELEMETRY")
		if err != nil {
			t.Fatal(err)
		}
		for bucket, keys := range olderRecords {
			kv, err := js.CreateKeyValue(testContext(t), jetstream.KeyValueConfig{Bucket: "FLEETS_" + bucket, History: 1, Storage: jetstream.FileStorage})
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range append(keys, "gone") {
				if _, err := kv.PutString(testContext(t), key, "old"); err != nil {
					t.Fatal(err)
				}
				if _, err := kv.PutString(testContext(t), key, key); err != nil {
					t.Fatal(err)
				}
			}
			if err := kv.Delete(testContext(t), "gone"); err != nil {
				t.Fatal(err)
			}
		}
		for seq := uint64(10); seq <= n; seq += 10 { // holes
			if err := up.DeleteMsg(testContext(t), seq); err != nil {
				t.Fatal(err)
			}
		}
		nc.Close()
		s.Shutdown()
		if err := os.CopyFS(whole, os.DirFS(r.dir)); err != nil {
			t.Fatal(err)
		}
	}()
	done := false
	for syncs := int64(0); !done; syncs += int64(race.Step()) {
		r := &rig{t: t, dir: t.TempDir(), journal: newJournal(t), subjects: subjects(t)}
		if err := os.CopyFS(r.dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		done = r.failToOpen(t, syncs)
		r.start(embedded.Config{}, StoreConfig{})
		for bucket, keys := range olderRecords {
			remembers(t, r, bucket, keys)
		}
		q, _ := r.run("pump", mapping.Events)
		for i := range n {
			if (i+1)%10 == 0 {
				continue
			}
			d := next(t, q)
			if string(d.Payload) != fmt.Sprintf("%d %0*d", i, size, 0) || d.Sequence != uint64(i+1) {
				t.Fatalf("after %d syncs: %.20s, sequence %d, want %d", syncs, d.Payload, d.Sequence, i)
			}
			d.Settle()
		}
		if d := next(t, q.lanes.feeds[mapping.Jobs]); d.Sequence != 1 {
			t.Errorf("%+v", d)
		}
		ack, err := stream(t, r.program()).Publish(testContext(t), "fleets.up.pump.events.x", nil, jetstream.WithMsgID("id-7"))
		if err != nil || !ack.Duplicate {
			t.Errorf("after %d syncs: %+v, %v", syncs, ack, err)
		}
		if left := queuedOf(t, r, "pump"); left != 1 {
			t.Errorf("after %d syncs: %d are left", syncs, left)
		}
		r.stop()
		if syncs > 200 {
			t.Fatal("it never gets through")
		}
	}
}

// olderRecords are what the buckets of a version before the journal hold, by bucket; each key is its own value.
var olderRecords = map[string][]string{
	wire.BucketExecutions: {"open.pump.e1", "done.pump.e2", "done.com=2Eacme.e=2E3"}, wire.BucketLeases: {"pump.fw"}, wire.BucketMarks: {"pump", "_filters.c1"},
}

// remembers looks for these keys, and for nothing else, in the journal; no bucket has them any more.
func remembers(t *testing.T, r *rig, sort string, keys []string) {
	t.Helper()
	got := map[string]string{}
	err := r.spool.records[sort].List(testContext(t), "", func(key string, value []byte) error { got[key] = string(value); return nil })
	if err != nil || len(got) != len(keys) {
		t.Errorf("%s: %v, %v", sort, got, err)
	}
	for _, key := range keys {
		if got[key] != key {
			t.Errorf("%s: %s is %q", sort, key, got[key])
		}
	}
	kv, err := r.store.js.KeyValue(testContext(t), "FLEETS_"+sort)
	if sort != wire.BucketMarks {
		if !errors.Is(err, jetstream.ErrBucketNotFound) {
			t.Errorf("%s is still there: %v", sort, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	left, err := kv.Keys(testContext(t))
	if err != nil || slices.ContainsFunc(left, func(key string) bool { return !strings.HasPrefix(key, "=") }) {
		t.Errorf("%s has %q, %v", sort, left, err)
	}
}

// failToOpen opens the spool with a disk that fails after so many syncs, and kills everything. It reports whether it
// opened all the same.
func (r *rig) failToOpen(t *testing.T, syncs int64) (opened bool) {
	t.Helper()
	r.journal.forgive("the journal can't be written", "the journal can't be closed", "cannot store")
	s, err := embedded.Start(embedded.Config{Listen: "127.0.0.1:0", StoreDir: r.dir, Log: r.journal.log(), Subjects: r.subjects})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := s.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	store := r.open(nc, StoreConfig{Things: []mapping.Thing{"pump"}, Embedded: true, Working: s.Working})
	intake, err := s.Connect("intake")
	if err != nil {
		t.Fatal(err)
	}
	fs := &failingFS{FS: journal.OS()}
	fs.left.Store(syncs)
	spool, err := store.OpenSpool(testContext(t), SpoolConfig{Dir: r.dir, Intake: intake, Brake: s.Brake(), FS: fs, Segment: 4 << 20})
	if err == nil {
		spool.Close()
	} else if !errors.Is(err, errDisk) && !errors.Is(err, journal.ErrFull) {
		t.Errorf("after %d syncs: %v", syncs, err)
	}
	store.Close()
	nc.Close()
	s.Shutdown()
	return err == nil
}
