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

// Retries tries work again until it succeeds, for all Things. For each kind of work it logs the first failure and the end of
// the failures, once for all Things. /readyz shows what fails now. A nil Retries logs nothing.
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
	Tries int // how many calls of Until fail now
	Err   error
}

// Until calls f until it returns nil, with growing pauses. When ctx ends first it returns the context's error. what names
// the work in the log: "to write the status".
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

// Waiting returns the kinds of work that fail now and are tried again.
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
