package salvage

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
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

// TestAlignBlock: the sequence of the record that is damaged is put in line, and no other byte changes.
func TestAlignBlock(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fill(8)
	r.stop()
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
			Sequences(r.dir, slog.New(slog.DiscardHandler))
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
	r := newRig(t)
	const stream = "S"
	some, err := r.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{"s"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := r.js.Publish(t.Context(), "s", nil); err != nil {
			t.Fatal(err)
		}
	}
	for seq := uint64(1); seq < 20; seq++ {
		if err := some.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	r.stop()
	streams := filepath.Join(r.dir, "jetstream", "$G", "streams")
	if err := os.Rename(filepath.Join(streams, stream), filepath.Join(streams, "."+stream)); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "."+stream)
	if err := os.CopyFS(other, os.DirFS(filepath.Join(streams, "."+stream))); err != nil {
		t.Fatal(err)
	}
	if n, err := alignBlock(filepath.Join(other, "msgs", "1.blk")); n == 0 || err != nil {
		t.Fatalf("where it is judged %d sequences are put in line, so the test shows nothing: %v", n, err)
	}
	var said strings.Builder
	Sequences(r.dir, slog.New(slog.NewTextHandler(&said, nil)))
	if said.Len() > 0 {
		t.Error(said.String())
	}
}
