package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/storedir"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// crashed starts a bridge on a copy of what the disk has now, after damage: as a crash leaves it.
func (r *rig) crashed(damage func(dir string)) *rig {
	r.t.Helper()
	dir := r.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(r.dir)); err != nil {
		r.t.Fatal(err)
	}
	damage(dir)
	c := &rig{t: r.t, dir: dir, journal: newJournal(r.t), subjects: r.subjects}
	c.journal.forgive("nats: ", "dropped; nobody had been told", "the end of the journal was torn", "missing in the middle")
	c.start(embedded.Config{}, StoreConfig{})
	c.seen()
	return c
}

// holds returns the payloads of a stream, in order.
func (r *rig) holds(name string) (out []string) {
	r.t.Helper()
	stream, err := r.store.js.Stream(testContext(r.t), name)
	if err != nil {
		r.t.Fatal(err)
	}
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		if m, err := stream.GetMsg(testContext(r.t), seq); err == nil {
			out = append(out, string(m.Data))
		} else if !errors.Is(err, jetstream.ErrMsgNotFound) {
			r.t.Fatal(err)
		}
	}
	return out
}

// blocks are the files in which a stream has its messages.
func blocks(t *testing.T, dir, stream string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "jetstream", "$G", "streams", stream, "msgs", "*.blk"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	_ = os.Remove(filepath.Join(filepath.Dir(files[0]), "index.db"))
	return files
}

// TestViewsAfterACrash: whatever a crash has left of a stream, all that was stored is there after the next start, once and in
// order.
func TestViewsAfterACrash(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, dir: t.TempDir(), journal: newJournal(t), subjects: subjects(t), checkpoint: time.Hour}
	r.start(embedded.Config{}, StoreConfig{})
	var want []string
	store := func(n int) {
		for range n {
			payload := fmt.Sprintf("%d %s", len(want), strings.Repeat("x", 100))
			want = append(want, payload)
			down(t, r, bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.JobsNotify}, Payload: []byte(payload)})
			bury(t, r, upLetter(payload))
		}
	}
	store(5)
	if err := r.spool.views.checkpoint(); err != nil { // these are the streams' own from now on
		t.Fatal(err)
	}
	floor := r.spool.views.written
	store(20)
	size := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	whole := size(blocks(t, r.dir, "FLEETS_DOWN")[0])
	cut := func(share float64, streams ...string) func(string) {
		return func(dir string) {
			for _, name := range streams {
				f := blocks(t, dir, name)[0]
				truncate(t, f, int64(float64(size(f))*share))
			}
		}
	}
	for name, damage := range map[string]func(string){
		"a kill":                     func(string) {},
		"the last message torn":      func(dir string) { truncate(t, blocks(t, dir, "FLEETS_DOWN")[0], whole-3) },
		"half of the tail lost":      cut(0.6, "FLEETS_DOWN", "FLEETS_DEAD"),
		"all since the checkpoint":   cut(0.21, "FLEETS_DOWN", "FLEETS_DEAD"),
		"the messages of one stream": cut(0.3, "FLEETS_DEAD"),
	} {
		t.Run(name, func(t *testing.T) {
			c := r.in(t).crashed(damage)
			for _, stream := range []string{"FLEETS_DOWN", "FLEETS_DEAD"} {
				got := c.holds(stream)
				if !slices.Equal(got, want) {
					t.Errorf("%s has %.5q, %d messages", stream, got, len(got))
				}
			}
			down(t, c, bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.JobsNotify}, Payload: []byte("new")})
			if got := c.holds("FLEETS_DOWN"); got[len(got)-1] != "new" {
				t.Errorf("%q is the last", got[len(got)-1])
			}
		})
	}
	t.Run("a hole", func(t *testing.T) { // the last of what is tried, as it changes the stream
		stream, err := r.store.js.Stream(testContext(t), "FLEETS_DOWN")
		if err != nil {
			t.Fatal(err)
		}
		for _, seq := range []uint64{9, 10, 14} {
			if err := stream.DeleteMsg(testContext(t), seq); err != nil {
				t.Fatal(err)
			}
		}
		c := r.in(t).crashed(func(string) {})
		if got := c.holds("FLEETS_DOWN"); !slices.Equal(got, want) {
			t.Errorf("it has %.5q, %d messages", got, len(got))
		}
	})
	if n := r.spool.journal.Size().Views; n != 40 || r.spool.journal.Views(0, 1)[0].Number <= floor {
		t.Errorf("the journal has %d records, from %d", n, r.spool.journal.Views(0, 1)[0].Number)
	}
	r.stop()
	r.start(embedded.Config{}, StoreConfig{})
	if n := r.spool.journal.Size().Views; n != 0 {
		t.Errorf("after a stop the journal has %d records", n)
	}
}

// in is the rig for another test.
func (r *rig) in(t *testing.T) *rig {
	c := *r
	c.t = t
	return &c
}

// newJournalIn has the journal of a store begin anew, as one whose directory was lost, with some records of its own.
func newJournalIn(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "FLEETS_"+storedir.Journal)
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(context.Background(), path, journal.Options{SegmentSize: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	_ = os.RemoveAll(filepath.Join(dir, "jetstream", "$G", "streams", "KV_FLEETS_MARKS")) // which knows how far the journal was
}

// TestNewJournalBesideOldStreams: a journal whose numbers begin anew does not take what its predecessor wrote for its own.
func TestNewJournalBesideOldStreams(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m := bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.JobsNotify}, Payload: []byte("old")}
	for range 30 {
		down(t, r, m)
	}
	r.checkpoint = time.Hour
	r.stop()
	newJournalIn(t, r.dir)
	r.start(embedded.Config{}, StoreConfig{})
	m.Payload = []byte("new")
	down(t, r, m)
	c := r.crashed(func(dir string) {
		f := blocks(t, dir, "FLEETS_DOWN")[0]
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		truncate(t, f, info.Size()-3)
	})
	if got := c.holds("FLEETS_DOWN"); len(got) != 31 || got[30] != "new" {
		t.Errorf("%d messages: %q", len(got), got)
	}
}

// TestCommandIsKeptAtOnce: a command and its execution are there after a crash, or neither is.
func TestCommandIsKeptAtOnce(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, dir: t.TempDir(), journal: newJournal(t), subjects: subjects(t), checkpoint: time.Hour}
	r.start(embedded.Config{}, StoreConfig{})
	sink := r.store.Down().(bridge.Keeper)
	ctx := testContext(t)
	a := mapping.Address{Thing: "pump", Channel: mapping.CommandRequest, ID: "e1"}
	opened := func(s *Store) (keys []string) {
		t.Helper()
		err := s.Executions().List(ctx, "open.pump.", func(key string, value []byte) error { keys = append(keys, key+" "+string(value)); return nil })
		if err != nil {
			t.Error(err)
		}
		return keys
	}
	if keys := opened(r.store); len(keys) > 0 {
		t.Errorf("%q", keys)
	}
	send(t, func(ctx context.Context, done func(error)) error {
		return sink.SendKept(ctx, bridge.Message{Address: a, Payload: []byte("{}")}, bridge.Record{Key: "open.pump.e1", Value: []byte("record")}, done)
	})
	if value, err := r.store.Executions().Get(ctx, "open.pump.e1"); err != nil || string(value) != "record" {
		t.Errorf("%q, %v", value, err)
	}
	c := r.crashed(func(dir string) { truncate(t, blocks(t, dir, "FLEETS_DOWN")[0], 0) })
	if m, err := c.store.Last(ctx, a); err != nil || string(m.Payload) != "{}" {
		t.Errorf("%s, %v", m.Payload, err)
	}
	for _, s := range []*Store{r.store, c.store} {
		if keys := opened(s); !slices.Equal(keys, []string{"open.pump.e1 record"}) {
			t.Errorf("%q", keys)
		}
	}
	if n := c.spool.journal.Size().States; n != 2 { // and the id
		t.Errorf("%d states", n)
	}
}

// TestShadowsAfterACrash: the bucket has the newest documents after a start, whatever a crash has left of it; and what an
// older version wrote there last is not lost.
func TestShadowsAfterACrash(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx, b := testContext(t), r.store.Shadow()
	for _, key := range []string{"same", "lost", "gone"} {
		if err := b.PutNoted(ctx, key, []byte(key), []byte("note of "+key)); err != nil {
			t.Fatal(err)
		}
	}
	r.seen()
	kv := r.store.bucket(wire.BucketShadow)
	_, one := kv.kv.Put(ctx, "older", []byte("older"))                                  // as versions before the journal had views
	two := kv.PutNoted(ctx, "same", []byte("newer than the journal's"), []byte("note")) // after a downgrade
	if err := errors.Join(one, two, kv.Delete(ctx, "lost")); err != nil {
		t.Fatal(err)
	}
	if err := r.spool.shadows.records.Delete(ctx, "gone"); err != nil { // and the bucket was not told
		t.Fatal(err)
	}
	r.stop()
	for range 2 {
		r.start(embedded.Config{}, StoreConfig{})
		r.seen()
		for key, want := range map[string]string{"same": "newer than the journal's note", "lost": "lost note of lost", "gone": "", "older": "older "} {
			value, note, err := r.store.Shadow().GetNoted(ctx, key)
			stream, readErr := r.store.js.Stream(ctx, "KV_FLEETS_SHADOW")
			if readErr != nil {
				t.Fatal(readErr)
			}
			m, readErr := r.store.bucket(wire.BucketShadow).last(ctx, stream, key)
			switch {
			case want == "":
				if !errors.Is(err, bridge.ErrNotFound) || !errors.Is(readErr, jetstream.ErrKeyNotFound) {
					t.Errorf("%s: %v, %v", key, err, readErr)
				}
			case err != nil || readErr != nil || string(value)+" "+string(note) != want:
				t.Errorf("%s: %s %s, %v, %v", key, value, note, err, readErr)
			case string(m.Data) != string(value) || m.Header.Get(wire.HeaderNote) != string(note) || m.Header.Get(headerNumber) == "":
				t.Errorf("programs read %s, %v", m.Data, m.Header)
			}
		}
		r.stop()
	}
}

// TestStoredWithoutJetStream: what is stored while the streams take nothing is kept, whatever is synced meanwhile.
func TestStoredWithoutJetStream(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, dir: t.TempDir(), journal: newJournal(t), subjects: subjects(t), checkpoint: time.Hour}
	r.start(embedded.Config{}, StoreConfig{})
	m := bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.JobsNotify}, Payload: []byte("0")}
	down(t, r, m)
	r.journal.forgive("cannot store", "NATS connection lost")
	start := r.stopJetStream()
	sink, want := r.store.Down(), []string{"0"}
	for i := range 5 {
		m.Payload = fmt.Append(nil, i+1)
		want = append(want, string(m.Payload))
		send(t, func(ctx context.Context, done func(error)) error { return sink.Send(ctx, m, done) })
	}
	if err := r.spool.views.checkpoint(); err != nil {
		t.Fatal(err)
	}
	r.journal.expect(t, "WARN cannot store", "what=down")
	if got := r.crashed(func(string) {}).holds("FLEETS_DOWN"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	start()
	r.seen()
	if got := r.holds("FLEETS_DOWN"); !slices.Equal(got, want) {
		t.Errorf("when JetStream is back: %q", got)
	}
}
