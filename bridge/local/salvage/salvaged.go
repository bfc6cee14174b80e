package salvage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// salvaged is the stream that has what was taken out of a damaged bucket, until all of it is back.
type salvaged struct {
	js     jetstream.JetStream
	bucket string // its stream
}

func (s salvaged) name() string  { return s.bucket + "_SALVAGED" }
func (s salvaged) space() string { return "_salvaged." + s.bucket + "." }

// whole is stored behind the rest, so that a stream that was not written to the end is known.
func (s salvaged) whole() string { return s.space() + "whole" }

// read returns what the stream has; nothing, if it is not there or was not written to the end.
func (s salvaged) read(ctx context.Context) ([]*jetstream.RawStreamMsg, error) {
	stream, err := s.js.Stream(ctx, s.name())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, err = stream.GetLastMsgForSubject(ctx, s.whole())
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	records, _, err := pick(ctx, stream)
	var out []*jetstream.RawStreamMsg
	for _, r := range records {
		if r.Subject != s.whole() {
			r.Subject = strings.TrimPrefix(r.Subject, s.space())
			out = append(out, r)
		}
	}
	return out, err
}

// write adds records; of a key that is there the new one counts.
func (s salvaged) write(ctx context.Context, records []*jetstream.RawStreamMsg) error {
	_, err := s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: s.name(), Subjects: []string{s.space() + ">"}, MaxMsgsPerSubject: 1, Description: "what was taken out of a damaged bucket, until it is back",
	})
	if err == nil {
		err = publishAll(ctx, s.js, records, func(m *nats.Msg) { m.Subject = s.space() + m.Subject })
	}
	if err == nil {
		_, err = s.js.Publish(ctx, s.whole(), nil)
	}
	if err != nil {
		return fmt.Errorf("what can be read can't be saved before the rest is removed: %w", err)
	}
	return nil
}

func (s salvaged) remove(ctx context.Context) error {
	if err := s.js.DeleteStream(ctx, s.name()); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	return nil
}
