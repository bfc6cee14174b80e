package letters

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
func (d *Letters) replayDown(ctx context.Context, id uint64, edited []byte) error {
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

// ServeReplays replays letters for replayDown, one after the other: send stores what a letter was before, and returns when
// that is durable.
func (d *Letters) ServeReplays(nc *nats.Conn, send func(context.Context, bridge.Message) error) error {
	space := replaySpace(d.subjects)
	_, err := nc.Subscribe(space+">", func(m *nats.Msg) {
		if !wire.Answerable(d.subjects, m.Reply) {
			return
		}
		name, isEdited := strings.CutSuffix(strings.TrimPrefix(m.Subject, space), replayEdited)
		id, err := strconv.ParseUint(name, 10, 64)
		if err == nil {
			var edited []byte
			if isEdited {
				edited = append([]byte{}, m.Data...)
			}
			err = d.sendDown(id, edited, send)
		}
		var said []byte
		if err != nil {
			said = []byte(err.Error())
		}
		_ = nc.Publish(m.Reply, said)
	})
	return err
}

// sendDown sends what a letter was before, and removes the letter.
func (d *Letters) sendDown(id uint64, edited []byte, send func(context.Context, bridge.Message) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), wire.APITimeout)
	defer cancel()
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
	if err := send(ctx, m); err != nil {
		return fmt.Errorf("%d: not sent, and kept: %w", id, err)
	}
	return d.replayed(ctx, stream, id)
}

// replayed removes a letter that is on its way.
func (d *Letters) replayed(ctx context.Context, stream jetstream.Stream, id uint64) error {
	if err := stream.DeleteMsg(ctx, id); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("%d: sent, but not removed: %w", id, err)
	}
	return nil
}

// downAgain is the message that a letter was when it came.
func (d *Letters) downAgain(l Letter) (bridge.Message, error) {
	_, address, err := d.subjects.Parse(l.Subject)
	if err != nil {
		return bridge.Message{}, fmt.Errorf("it came on topic %q, which belongs to no channel, so it has nowhere to go", l.Topic)
	}
	return bridge.Message{Address: address, Payload: l.Payload, Trace: l.Trace, Received: l.Received, Source: l.Source}, nil
}
