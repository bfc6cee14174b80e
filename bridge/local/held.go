package local

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/mapping"
)

// Queued counts the messages that wait for the cloud, of every configured Thing.
func (s *Store) Queued(ctx context.Context) (map[mapping.Thing]uint64, error) {
	queued, err := s.queued(ctx)
	if err != nil {
		return nil, err
	}
	return ofThings(queued, *s.things.Load()), nil
}

// ofThings picks Things out of counts by token.
func ofThings(queued map[string]uint64, things []mapping.Thing) map[mapping.Thing]uint64 {
	out := make(map[mapping.Thing]uint64, len(things))
	for _, t := range things {
		out[t] = queued[mapping.Token(string(t))]
	}
	return out
}

// Accepted counts the messages that programs handed over since Open, and those that were waiting then.
// It is what has been delivered, was a duplicate, is dead or waits.
func (s *Store) Accepted(ctx context.Context) (uint64, error) {
	var n uint64
	for class, up := range s.up {
		own, err := s.js.Stream(ctx, up.CachedInfo().Config.Name)
		if err != nil {
			return 0, fmt.Errorf("stream %s: %w", up.CachedInfo().Config.Name, err)
		}
		n += own.CachedInfo().State.LastSeq - s.before[class]
	}
	return n, nil
}

// queued counts by the Thing's token.
func (s *Store) queued(ctx context.Context) (map[string]uint64, error) {
	out := map[string]uint64{}
	for _, class := range mapping.Classes {
		held, err := s.held(ctx, class)
		if err != nil {
			return nil, err
		}
		for token, n := range byThing(held) {
			out[token] += n
		}
	}
	return out, nil
}

// held counts what the stream of a class holds, by lane.
func (s *Store) held(ctx context.Context, class mapping.Class) (map[queueKey]uint64, error) {
	name, space := s.up[class].CachedInfo().Config.Name, s.cfg.Subjects.Space(mapping.SpaceUp)
	// A handle of one's own: Info writes into it.
	own, err := s.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	info, err := own.Info(ctx, jetstream.WithSubjectFilter(space))
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	held := map[queueKey]uint64{}
	for subject, n := range info.State.Subjects {
		held[subjectKey(subject, space)] += n
	}
	return held, nil
}

// thingToken is the first token after a space's, given as "fleets.up.>".
func thingToken(subject, space string) string {
	rest := subject[min(len(space)-1, len(subject)):]
	for i := range len(rest) {
		if rest[i] == '.' {
			return rest[:i]
		}
	}
	return rest
}
