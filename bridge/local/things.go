package local

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/streams"
	"fleetbridge/mapping"
)

// SetThings changes the Things that can be published for. What the streams hold
// of others stays there. After an error some streams may have changed: the same call, or one with the
// Things of before, puts that right.
func (s *Store) SetThings(ctx context.Context, things []mapping.Thing) error {
	for _, class := range mapping.Classes {
		public := upSubjects(s.cfg.Subjects, things, class)
		if err := s.reshape(ctx, class, func(is *jetstream.StreamInfo) { is.Config.Subjects = public }); err != nil {
			return err
		}
	}
	things = slices.Clone(things)
	s.things.Store(&things)
	return nil
}

// reshape changes the configuration of a class's stream, as it is now: what others have changed stays.
func (s *Store) reshape(ctx context.Context, class mapping.Class, edit func(*jetstream.StreamInfo)) error {
	s.shaping.Lock()
	defer s.shaping.Unlock()
	name := s.up[class].CachedInfo().Config.Name
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	info := stream.CachedInfo()
	was := info.Config
	if edit(info); reflect.DeepEqual(info.Config, was) {
		return nil
	}
	if _, err := s.js.UpdateStream(ctx, info.Config); err != nil {
		return streams.Explain(ctx, s.js, info.Config, err)
	}
	return nil
}

// Left counts the messages that wait for Things that need not be configured any more.
func (s *Store) Left(ctx context.Context, things []mapping.Thing) (map[mapping.Thing]uint64, error) {
	queued, err := s.queued(ctx)
	if err != nil {
		return nil, err
	}
	return ofThings(queued, things), nil
}
