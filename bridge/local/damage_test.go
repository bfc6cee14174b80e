package local

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/embedded"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/race"
	"fleetbridge/mapping"
)

// damages are what can happen to a file.
var damages = map[string]func(data []byte, at int) []byte{
	"bit":     func(data []byte, at int) []byte { data[at] ^= 1 << (at % 8); return data },
	"zeros":   func(data []byte, at int) []byte { clear(data[at:min(at+64, len(data))]); return data },
	"cut":     func(data []byte, at int) []byte { return data[:at] },
	"rubbish": func(data []byte, at int) []byte { return append(data, make([]byte, 100)...) },
	"removed": nil,
}

// TestAnyDamageStarts: whatever is damaged in whichever file of the store, the bridge starts, with the first try, and
// takes and keeps everything from then on.
func TestAnyDamageStarts(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	func() {
		r := newRigWith(t, embedded.Config{}, StoreConfig{})
		r.fill(t, 20)
		if err := r.store.Note(testContext(t), true); err != nil {
			t.Fatal(err)
		}
		r.stop()
		if err := os.CopyFS(whole, os.DirFS(r.dir)); err != nil {
			t.Fatal(err)
		}
	}()
	var files []string
	_ = filepath.WalkDir(whole, func(path string, d fs.DirEntry, err error) error {
		if info, _ := d.Info(); err == nil && d.Type().IsRegular() && info.Size() > 0 && filepath.Base(path) != "lock" {
			path, _ = filepath.Rel(whole, path)
			files = append(files, path)
		}
		return err
	})
	found := 0
	for _, file := range files {
		for n, name := range slices.Sorted(maps.Keys(damages)) {
			if !strings.HasSuffix(file, ".blk") && n != len(file)%len(damages) { // the server makes these anew
				continue
			}
			if found++; found%race.Step() != 0 {
				continue
			}
			damage := damages[name]
			id := strings.ReplaceAll(strings.TrimPrefix(file, "jetstream/$G/streams/"), "/", " ") + " " + name
			random := rand.New(rand.NewPCG(uint64(len(id)), uint64(id[3])))
			t.Run(id, func(t *testing.T) {
				t.Parallel() // it waits for the disk more than it works
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(dir, file)
				if damage == nil {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				} else {
					data, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, damage(data, random.IntN(len(data))), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				r := &rig{t: t, dir: dir, journal: newJournal(t), subjects: subjects(t)}
				r.journal.forgive("WARN", "ERROR")
				r.start(embedded.Config{}, StoreConfig{})
				r.fill(t, 3)
				if err := r.store.Note(testContext(t), true); err != nil {
					t.Error(err)
				}
				r.stop()
			})
		}
	}
}

// fill writes into every stream and bucket, and reads what it can.
func (r *rig) fill(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	keep := func(what string, f func() error) {
		t.Helper()
		var err error
		for {
			if err = f(); err == nil {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s: %v", what, err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	for i := range n {
		for _, a := range []mapping.Address{{Thing: "pump", Channel: mapping.Event, ID: "x"}, {Thing: "pump", Channel: mapping.CommandResponse, ID: fmt.Sprint("e", i)}} {
			keep("enqueue", func() error { _, err := r.up().Enqueue(ctx, a, make([]byte, 100), bridge.Trace{}); return err })
		}
		for name, b := range r.store.buckets {
			for _, key := range []string{"pump", fmt.Sprint("done.pump.", i%15)} {
				keep(name, func() error { return b.Put(ctx, key, make([]byte, 50)) })
				keep(name, func() error { _, err := b.Get(ctx, key); return err })
			}
			keep(name, func() error { return b.List(ctx, "", func(string, []byte) error { return nil }) })
		}
		m := bridge.Message{Address: mapping.Address{Thing: "pump", Channel: mapping.JobsNotify}, Payload: make([]byte, 60)}
		send(t, func(ctx context.Context, done func(error)) error { return r.store.Down().Send(ctx, m, done) })
		send(t, func(ctx context.Context, done func(error)) error {
			return r.store.Bury(ctx, bridge.Letter{Message: m, Direction: mapping.Down, Rejection: bridge.Rejectf(bridge.CodeSchema, "no")}, done)
		})
	}
}

// TestDamagedRecordIsRecognized: what the server calls a write error is told apart from a disk that refuses.
// TestDamageWhileRunning: a bucket that is damaged under a running bridge is mended, and keeps its other keys.
func TestDamageWhileRunning(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{}, StoreConfig{})
	r.fill(t, 20)
	if err := r.store.Shadow().PutNoted(t.Context(), "other", []byte("kept"), nil); err != nil {
		t.Fatal(err)
	}
	r.seen()
	r.journal.forgive("WARN", "ERROR")
	r.server.NATS().Errorf("JetStream stream '$G > KV_FLEETS_SHADOW' critical write error: malformed or corrupt message") // as when it finds that
	r.journal.expect(t, "the disk takes messages again")
	r.fill(t, 3)
	if v, err := r.store.bucket(wire.BucketShadow).Get(testContext(t), "other"); err != nil || string(v) != "kept" {
		t.Errorf("%q, %v", v, err)
	}
}
