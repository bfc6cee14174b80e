package local

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fleetbridge/internal/race"
)

// recordsOf are those of a file, of which all checksums are right.
func recordsOf(t *testing.T, path, stream string) (out []*record) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := blockReader{f: f, in: bufio.NewReader(f), key: sha256.Sum256(fmt.Appendf(nil, "%s-%s", stream, strings.TrimSuffix(filepath.Base(path), ".blk")))}
	for {
		now, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if now == nil {
			return out
		}
		if !r.good(now) {
			t.Fatalf("%s: the record at %d is not as the server writes it", path, now.at)
		}
		out = append(out, now)
	}
}

// TestDamagedSequence: whichever record's sequence a flipped bit has put out of line, the bridge starts, and works.
func TestDamagedSequence(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, ServerConfig{}, StoreConfig{})
	r.fill(t, 20)
	r.stop()
	blocks, err := filepath.Glob(filepath.Join(r.dir, "jetstream", "$G", "streams", "*", "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatal(len(blocks), err)
	}
	tried := 0
	for _, block := range blocks {
		stream := filepath.Base(filepath.Dir(filepath.Dir(block)))
		records := recordsOf(t, block, stream)
		if len(records) == 0 {
			continue
		}
		if n, err := alignBlock(block); n != 0 || err != nil {
			t.Errorf("%s is whole, and %d sequences were put in line, %v", block, n, err)
		}
		for i, which := range []int{0, len(records) / 2, len(records) - 1} {
			if tried++; race.Enabled && i != len(stream)%3 { // one of each stream's
				continue
			}
			t.Run(fmt.Sprintf("%s %d of %d", stream, which, len(records)), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(r.dir)); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(dir, strings.TrimPrefix(block, r.dir))
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				data[records[which].at+4+6] ^= 1 << 3 // bit 51
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				again := &rig{t: t, dir: dir, journal: newJournal(t), subjects: subjects(t)}
				again.journal.forgive("WARN", "ERROR")
				again.start(ServerConfig{}, StoreConfig{})
				again.fill(t, 3)
				again.stop()
			})
		}
	}
	if tried < 6 {
		t.Errorf("only %d records were damaged", tried)
	}
}

// TestAlignBlock: the sequence of the record that is damaged is put in line, and no other byte changes.
func TestAlignBlock(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, ServerConfig{}, StoreConfig{})
	for i := range 8 {
		if err := r.store.Shadow().PutNoted(t.Context(), fmt.Sprint("k", i), []byte("value"), nil); err != nil {
			t.Fatal(err)
		}
	}
	r.stop()
	const stream = "KV_FLEETS_SHADOW"
	path := filepath.Join(r.dir, "jetstream", "$G", "streams", stream, "msgs", "1.blk")
	records := recordsOf(t, path, stream)
	whole, err := os.ReadFile(path)
	if err != nil || len(records) != 8 {
		t.Fatal(len(records), err)
	}
	for _, which := range []int{0, 3, 7} {
		for _, bit := range []int{30, 51, 61} {
			data := append([]byte(nil), whole...)
			data[records[which].at+4+int64(bit/8)] ^= 1 << (bit % 8)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			alignSequences(r.dir, slog.New(slog.DiscardHandler))
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(whole) { // in line is where it was
				t.Errorf("record %d, bit %d: the file is not as it was", which, bit)
			}
		}
	}
	if n, err := alignBlock(path); n != 0 || err != nil {
		t.Error(n, err)
	}
}

// A stream that the server was removing when it was killed has another name: nothing of it is judged.
func TestStreamBeingRemoved(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, ServerConfig{}, StoreConfig{})
	r.fill(t, 20)
	down, err := r.store.js.Stream(testContext(t), "FLEETS_DOWN")
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq < down.CachedInfo().State.LastSeq; seq++ {
		if err := down.DeleteMsg(testContext(t), seq); err != nil {
			t.Fatal(err)
		}
	}
	r.stop()
	streams := filepath.Join(r.dir, "jetstream", "$G", "streams")
	if err := os.Rename(filepath.Join(streams, "FLEETS_DOWN"), filepath.Join(streams, ".FLEETS_DOWN")); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), ".FLEETS_DOWN")
	if err := os.CopyFS(other, os.DirFS(filepath.Join(streams, ".FLEETS_DOWN"))); err != nil {
		t.Fatal(err)
	}
	if n, err := alignBlock(filepath.Join(other, "msgs", "1.blk")); n == 0 || err != nil {
		t.Fatalf("where it is judged %d sequences are put in line, so the test shows nothing: %v", n, err)
	}
	log := newJournal(t)
	alignSequences(r.dir, log.log())
}
