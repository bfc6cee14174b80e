package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// With the embedded server a letter that goes down again is a record of the journal, as every message from the cloud, and
// only the bridge can write one. So it is asked to replay the letter, on _fleets.replay.ID, or _fleets.replay.ID.edited
// with another payload. The answer is empty, or says what is wrong.
func replaySpace(s mapping.Subjects) string { return "_" + s.Prefix() + ".replay." }

const replayEdited = ".edited"

// errNoBridge is the error of replayDown when no bridge with an embedded server answers.
var errNoBridge = errors.New("no bridge answers")

// replayDown asks the bridge to replay a letter, with edited as its payload unless that is nil.
func (d *DeadLetters) replayDown(ctx context.Context, id uint64, edited []byte) error {
	subject := replaySpace(d.subjects) + strconv.FormatUint(id, 10)
	if edited != nil {
		subject += replayEdited
	}
	ctx, cancel := context.WithTimeout(ctx, wire.APITimeout)
	defer cancel()
	m, err := d.nc.RequestWithContext(ctx, subject, edited)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return errNoBridge
	case err != nil:
		return fmt.Errorf("%d: asking the bridge to send it: %w", id, err)
	case len(m.Data) > 0:
		return errors.New(string(m.Data))
	}
	return nil
}

// serveReplays replays letters for replayDown, one after the other.
func (s *Spool) serveReplays() error {
	space := replaySpace(s.subjects)
	_, err := s.cfg.Intake.Subscribe(space+">", func(m *nats.Msg) {
		if !wire.Answerable(s.subjects, m.Reply) {
			return
		}
		name, isEdited := strings.CutSuffix(strings.TrimPrefix(m.Subject, space), replayEdited)
		id, err := strconv.ParseUint(name, 10, 64)
		if err == nil {
			var edited []byte
			if isEdited {
				edited = append([]byte{}, m.Data...)
			}
			err = s.replay(id, edited)
		}
		var said []byte
		if err != nil {
			said = []byte(err.Error())
		}
		_ = s.cfg.Intake.Publish(m.Reply, said)
	})
	return err
}

// replay stores what a letter was before in the journal, and removes the letter.
func (s *Spool) replay(id uint64, edited []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), wire.APITimeout)
	defer cancel()
	d := s.store.DeadLetters()
	stream, err := d.stream(ctx)
	if err != nil {
		return err
	}
	letter, err := d.get(ctx, stream, id)
	if err != nil {
		return err
	}
	if edited != nil {
		letter.Payload = edited
	}
	m, err := d.downAgain(letter)
	if err != nil {
		return fmt.Errorf("%d: %w", id, err)
	}
	m.Payload = bytes.Clone(m.Payload)
	stored := make(chan error, 1)
	err = s.store.Down().Send(ctx, m, func(err error) { stored <- err })
	if err == nil {
		select {
		case err = <-stored:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("%d: not sent, and kept: %w", id, err)
	}
	return d.replayed(ctx, stream, id)
}

// replayed removes a letter that is on its way.
func (d *DeadLetters) replayed(ctx context.Context, stream jetstream.Stream, id uint64) error {
	if err := stream.DeleteMsg(ctx, id); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("%d: sent, but not removed: %w", id, err)
	}
	return nil
}

// downAgain is the message that a letter was when it came.
func (d *DeadLetters) downAgain(l DeadLetter) (bridge.Message, error) {
	_, address, err := d.subjects.Parse(l.Subject)
	if err != nil {
		return bridge.Message{}, fmt.Errorf("it came on topic %q, which belongs to no channel, so it has nowhere to go", l.Topic)
	}
	return bridge.Message{Address: address, Payload: l.Payload, Trace: l.Trace, Received: l.Received, Source: l.Source}, nil
}
