package local

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fleetbridge/bridge/local/embedded"
	"fleetbridge/internal/race"
)

// recordsIn is where the records of a file of the server's begin that are no tombstones.
func recordsIn(t *testing.T, path string) (out []int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); at += int(binary.LittleEndian.Uint32(data[at:]) &^ (1 << 31)) { // a bit for headers
		if data[at+4+7]&(1<<6) == 0 {
			out = append(out, at)
		}
	}
	return out
}

// TestDamagedSequence: whichever record's sequence a flipped bit has put out of line, the bridge starts, and works.
func TestDamagedSequence(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, embedded.Config{}, StoreConfig{})
	r.fill(t, 20)
	r.stop()
	blocks, err := filepath.Glob(filepath.Join(r.dir, "jetstream", "$G", "streams", "*", "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatal(len(blocks), err)
	}
	tried := 0
	for _, block := range blocks {
		stream := filepath.Base(filepath.Dir(filepath.Dir(block)))
		records := recordsIn(t, block)
		if len(records) == 0 {
			continue
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
				data[records[which]+4+6] ^= 1 << 3 // bit 51
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				again := &rig{t: t, dir: dir, journal: newJournal(t), subjects: subjects(t)}
				again.journal.forgive("WARN", "ERROR")
				again.start(embedded.Config{}, StoreConfig{})
				again.fill(t, 3)
				again.stop()
			})
		}
	}
	if tried < 6 {
		t.Errorf("only %d records were damaged", tried)
	}
}
