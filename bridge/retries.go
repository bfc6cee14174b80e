package bridge

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"fleetbridge/internal/flow"
	"fleetbridge/mapping"
)

// Retries is what all Things try again until it works. It speaks at the first failure of a kind of work and when that
// kind works again, however many Things are at it, and readiness can see what they wait for. The nil Retries
// says nothing.
type Retries struct {
	Log *slog.Logger

	mu    sync.Mutex
	kinds map[string]*Waiting
}

// Waiting is a kind of work that is tried again.
type Waiting struct {
	What  string        // "to write a shadow document"
	Thing mapping.Thing // one of those that wait
	Since time.Time
	Tries int // under way
	Err   error
}

// Until tries until f works, with growing pauses, or returns the context's error. what names the work for people,
// after "fails".
func (r *Retries) Until(ctx context.Context, thing mapping.Thing, what string, f func() error) error {
	waits := false
	defer func() {
		if waits {
			r.ended(what)
		}
	}()
	for pause := pauseMin; ; pause = min(2*pause, pauseMax) {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			r.failed(thing, what, err, !waits)
			waits = true
		}
		if err := flow.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func (r *Retries) failed(thing mapping.Thing, what string, err error, first bool) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.kinds[what]
	if w == nil {
		if r.kinds == nil {
			r.kinds = map[string]*Waiting{}
		}
		w = &Waiting{What: what, Thing: thing, Since: time.Now()}
		r.kinds[what] = w
		r.Log.Warn("fails for now and is tried again: "+what, "thing", string(thing), "error", err)
	}
	w.Err = err
	if first {
		w.Tries++
	}
}

func (r *Retries) ended(what string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.kinds[what]
	if w.Tries--; w.Tries == 0 {
		delete(r.kinds, what)
		r.Log.Info("works again: "+what, "after", time.Since(w.Since).Round(time.Millisecond))
	}
}

// Waiting lists what is tried again now.
func (r *Retries) Waiting() []Waiting {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Waiting
	for _, w := range slices.SortedFunc(maps.Values(r.kinds), func(a, b *Waiting) int { return strings.Compare(a.What, b.What) }) {
		out = append(out, *w)
	}
	return out
}
