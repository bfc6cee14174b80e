package salvage

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/wire"
)

// TestSalvageIsKilled: wherever the process is killed while it makes a bucket whole, the next one has every key, with
// its note, and what was written since counts.
func TestSalvageIsKilled(t *testing.T) {
	t.Parallel()
	for what, killed := range map[string]func(t *testing.T, r *rig, saved salvaged, kept []*jetstream.RawStreamMsg) error{
		"while it saves": func(t *testing.T, r *rig, saved salvaged, kept []*jetstream.RawStreamMsg) error {
			if err := saved.write(t.Context(), kept[:3]); err != nil {
				return err
			}
			stream, err := r.js.Stream(t.Context(), saved.name())
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
			return putBack(t.Context(), r.js, kept[:4])
		},
		"when all is back": func(t *testing.T, r *rig, saved salvaged, kept []*jetstream.RawStreamMsg) error {
			if err := emptied(t, r, saved, kept); err != nil {
				return err
			}
			return putBack(t.Context(), r.js, kept)
		},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			r.fill(8)
			bucket, err := r.js.Stream(t.Context(), stream)
			if err != nil {
				t.Fatal(err)
			}
			kept, lost, err := pick(t.Context(), bucket)
			if err != nil || len(kept) != 8 || len(lost) > 0 {
				t.Fatal(len(kept), lost, err)
			}
			slices.SortFunc(kept, func(a, b *jetstream.RawStreamMsg) int { return strings.Compare(a.Subject, b.Subject) })
			saved := salvaged{r.js, stream}
			if err := killed(t, r, saved, kept); err != nil {
				t.Fatal(err)
			}
			r.put("k0", "new", "newer")
			if err := Bucket(t.Context(), r.js, stream, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			for i := range 8 {
				want, wantNote := "old", "note"
				if i == 0 {
					want, wantNote = "new", "newer"
				}
				m, err := bucket.GetLastMsgForSubject(t.Context(), fmt.Sprint("$KV.B.k", i))
				if err != nil || string(m.Data) != want || m.Header.Get(wire.HeaderNote) != wantNote {
					t.Errorf("k%d is %+v, %v", i, m, err)
				}
			}
			if _, err := r.js.Stream(t.Context(), saved.name()); err != jetstream.ErrStreamNotFound {
				t.Error("what was saved is still there:", err)
			}
		})
	}
}

func emptied(t *testing.T, r *rig, saved salvaged, kept []*jetstream.RawStreamMsg) error {
	if err := saved.write(t.Context(), kept); err != nil {
		return err
	}
	stream, err := r.js.Stream(t.Context(), saved.bucket)
	if err != nil {
		return err
	}
	return stream.Purge(t.Context())
}
