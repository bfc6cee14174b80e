package local

import (
	"context"
	"strings"
	"sync"
	"time"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// queueKey is what a queue is for: a Thing, by its token, and a kind.
type queueKey struct {
	token string
	kind  mapping.Kind
}

func keyOf(t mapping.Thing, k mapping.Kind) queueKey { return queueKey{mapping.Token(string(t)), k} }

// subjectKey reads the lane of a stored subject; space is given as "fleets.up.>". The streams take no subject of
// another kind.
func subjectKey(subject, space string) queueKey {
	token := thingToken(subject, space)
	rest := subject[min(len(space)+len(token), len(subject)):]
	name, _, _ := strings.Cut(rest, ".")
	kind, _ := mapping.ParseKind(name)
	return queueKey{token, kind}
}

// byThing adds up the counts of lanes by the Thing's token.
func byThing(held map[queueKey]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(held))
	for l, n := range held {
		out[l.token] += n
	}
	return out
}

// Queues are bridge.ThingLanes on streams.
type Queues struct{ all []*Queue }

// TakeOver is bridge.Lanes.
func (s *Store) TakeOver(ctx context.Context, t mapping.Thing) (bridge.ThingLanes, error) {
	return s.queues(ctx, t)
}

func (s *Store) queues(ctx context.Context, t mapping.Thing) (*Queues, error) {
	out := &Queues{}
	for _, k := range mapping.Kinds {
		q, err := s.queue(ctx, keyOf(t, k), t)
		if err != nil {
			return out, err
		}
		out.all = append(out.all, q)
	}
	return out, nil
}

// Lane is bridge.ThingLanes.
func (qs *Queues) Lane(k mapping.Kind) bridge.Source { return qs.all[k] }

// Oldest is bridge.ThingLanes.
func (qs *Queues) Oldest() (at time.Time, waits bool) {
	for _, q := range qs.all {
		if t, one := q.Oldest(); one && (!waits || t.Before(at)) {
			at, waits = t, true
		}
	}
	return at, waits
}

// Flush is bridge.ThingLanes.
func (qs *Queues) Flush(ctx context.Context) error {
	return qs.each(func(q *Queue) error { return q.Flush(ctx) })
}

// Remove is bridge.ThingLanes.
func (qs *Queues) Remove(ctx context.Context) error {
	return qs.each(func(q *Queue) error { return q.Remove(ctx) })
}

// each does something with all queues at once, and returns the first error.
func (qs *Queues) each(do func(*Queue) error) error {
	var all sync.WaitGroup
	errs := make([]error, len(qs.all))
	for i, q := range qs.all {
		all.Go(func() { errs[i] = do(q) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Run is bridge.ThingLanes.
func (qs *Queues) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	return qs.each(func(q *Queue) error {
		err := q.read(ctx)
		if err != nil {
			stop()
		}
		return err
	})
}
