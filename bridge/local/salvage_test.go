package local

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// TestSalvageIsKilled: wherever the process is killed while it makes a bucket whole, the next one has every key, with
// its note, and what was written since counts.
func TestSalvageIsKilled(t *testing.T) {
	t.Parallel()
	const name = "KV_FLEETS_SHADOW"
	for what, killed := range map[string]func(t *testing.T, r *rig, saved salvaged, kept []*jetstream.RawStreamMsg) error{
		"while it saves": func(t *testing.T, r *rig, saved salvaged, kept []*jetstream.RawStreamMsg) error {
			if err := saved.write(t.Context(), kept[:3]); err != nil {
				return err
			}
			stream, err := r.store.js.Stream(t.Context(), saved.name())
			if err != nil {
				return err
			}
			return stream.Purge(t.Context(), jetstream.WithPurgeSubject(saved.whole()))
		},
		"when all is saved": func(t *testing.T, _ *rig, saved salvaged, kept []*jetstream.RawStreamMsg) error {
			return saved.write(t.Context(), kept)
		},
		"when the bucket is empty": func(t *testing.T, r *rig, saved salvaged, kept []*jetstream.RawStreamMsg) error {
			return emptied(t, r, saved, kept)
		},
		"while it puts back": func(t *testing.T, r *rig, saved salvaged, kept []*jetstream.RawStreamMsg) error {
			if err := emptied(t, r, saved, kept); err != nil {
				return err
			}
			return putBack(t.Context(), r.store.js, kept[:4])
		},
		"when all is back": func(t *testing.T, r *rig, saved salvaged, kept []*jetstream.RawStreamMsg) error {
			if err := emptied(t, r, saved, kept); err != nil {
				return err
			}
			return putBack(t.Context(), r.store.js, kept)
		},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRigWith(t, ServerConfig{}, StoreConfig{})
			shadow := r.store.Shadow()
			for i := range 8 {
				if err := shadow.PutNoted(t.Context(), fmt.Sprint("k", i), []byte("old"), []byte("note")); err != nil {
					t.Fatal(err)
				}
			}
			r.seen()
			stream, err := r.store.js.Stream(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			kept, lost, err := pick(t.Context(), stream)
			if err != nil || len(kept) != 8 || len(lost) > 0 {
				t.Fatal(len(kept), lost, err)
			}
			slices.SortFunc(kept, func(a, b *jetstream.RawStreamMsg) int { return strings.Compare(a.Subject, b.Subject) })
			saved := salvaged{r.store.js, name}
			if err := killed(t, r, saved, kept); err != nil {
				t.Fatal(err)
			}
			if err := shadow.PutNoted(t.Context(), "k0", []byte("new"), nil); err != nil {
				t.Fatal(err)
			}
			r.stop()
			r.start(ServerConfig{}, StoreConfig{})
			for i := range 8 {
				want, wantNote := "old", "note"
				if i == 0 {
					want, wantNote = "new", ""
				}
				if v, note, err := r.store.Shadow().GetNoted(t.Context(), fmt.Sprint("k", i)); err != nil || string(v) != want || string(note) != wantNote {
					t.Errorf("k%d is %q with the note %q, %v", i, v, note, err)
				}
			}
			if _, err := r.store.js.Stream(t.Context(), saved.name()); err != jetstream.ErrStreamNotFound {
				t.Error("what was saved is still there:", err)
			}
		})
	}
}

func emptied(t *testing.T, r *rig, saved salvaged, kept []*jetstream.RawStreamMsg) error {
	if err := saved.write(t.Context(), kept); err != nil {
		return err
	}
	stream, err := r.store.js.Stream(t.Context(), saved.bucket)
	if err != nil {
		return err
	}
	return stream.Purge(t.Context())
}
