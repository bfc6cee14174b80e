package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// Page is some of what is stored, the newest first.
type Page[T any] struct {
	Items  []T
	Next   uint64 // where the next page begins; 0: this is the last. A page may have no items and a Next
	Looked int    // messages that were read for it
	Total  uint64 // messages that the stream holds, whatever was asked for
}

// Bounds of one page: messages that are read, and how far it looks back at first.
const (
	maxBrowse   = 1000
	firstWindow = 64
)

// Browse reads the messages under a subject before a sequence, 0: from the newest, and hands out what pick makes of
// them, the newest first and limit at most. It makes no consumer: the server finds the next message under a subject, so
// a window is read forwards, and then the one before it, which is larger where little was found.
func Browse[T any](ctx context.Context, js jetstream.JetStream, name, subject string, before uint64, limit int, pick func(*jetstream.RawStreamMsg) (T, bool)) (out Page[T], err error) {
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("stream %s: %w", name, err)
	}
	state := stream.CachedInfo().State
	out.Total = state.Msgs
	if end := state.LastSeq + 1; before == 0 || before > end {
		before = end
	}
	type one struct {
		sequence uint64
		item     T
	}
	for size := uint64(firstWindow); before > max(state.FirstSeq, 1) && state.Msgs > 0; {
		from := max(state.FirstSeq, 1)
		if before-from > size {
			from = before - size
		}
		var window []one
		read := 0
		for next := from; next < before; read++ {
			if out.Looked+read == maxBrowse {
				out.Next = before
				return out, nil
			}
			m, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subject))
			if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && m.Sequence >= before {
				break
			}
			if err != nil {
				return out, fmt.Errorf("stream %s: %w", name, err)
			}
			next = m.Sequence + 1
			if item, wanted := pick(m); wanted {
				window = append(window, one{m.Sequence, item})
			}
		}
		out.Looked += read
		for _, o := range slices.Backward(window) {
			if len(out.Items) == limit {
				out.Next = before
				return out, nil
			}
			out.Items = append(out.Items, o.item)
			before = o.sequence
		}
		before = from
		if uint64(read) < size/8 {
			size *= 4
		}
	}
	return out, nil
}
