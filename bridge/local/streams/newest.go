package streams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrTooMany: there are more subjects than a server reads at once, which is about a thousand.
var ErrTooMany = errors.New("direct get: too many subjects")

// firstPatience is how long the first replica that is asked may take, and the next one twice as long.
const firstPatience = 150 * time.Millisecond

// Newest reads the last message of each subject, and how far the replica was that answered; upTo is 0 when there is none.
// The server chooses the replica. One that stands still is chosen for a minute and more, so another is asked soon.
// ErrTooMany says that there are more subjects than one answer has.
func Newest(ctx context.Context, nc *nats.Conn, stream string, subjects ...string) (found []*jetstream.RawStreamMsg, upTo uint64, err error) {
	err = patiently(ctx, firstPatience, func(d time.Duration) time.Duration { return 2 * d }, func(try context.Context) (err error) {
		found, upTo, err = askReplica(try, nc, stream, subjects)
		return err
	})
	return found, upTo, err
}

func askReplica(ctx context.Context, nc *nats.Conn, stream string, subjects []string) (found []*jetstream.RawStreamMsg, upTo uint64, err error) {
	request, _ := json.Marshal(struct {
		Subjects []string `json:"multi_last"`
	}{subjects})
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, request); err != nil {
		return nil, 0, err
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, 0, err
		}
		switch status := m.Header.Get("Status"); status {
		case "":
			seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
			if err != nil {
				return nil, 0, fmt.Errorf("a direct get without a sequence: %w", err)
			}
			at, _ := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
			found = append(found, &jetstream.RawStreamMsg{Subject: m.Header.Get(jetstream.SubjectHeader), Sequence: seq, Header: m.Header, Data: m.Data, Time: at})
		case "204":
			upTo, err = strconv.ParseUint(m.Header.Get("Nats-UpTo-Sequence"), 10, 64)
			return found, upTo, err
		case "404": // a replica that does not even have the marker
			return nil, 0, nil
		case "413":
			return nil, 0, ErrTooMany
		case "503": // no replica is ready
			return nil, 0, jetstream.ErrNoStreamResponse
		default:
			return nil, 0, fmt.Errorf("direct get: %s %s", status, m.Header.Get("Description"))
		}
	}
}

// NewestOf reads the last message of one of two subjects, nil: there is none, and how far the replica was that answered.
// The other subject is there for certain: of nothing no replica says how far it is.
func NewestOf(ctx context.Context, nc *nats.Conn, stream, subject, other string) (raw *jetstream.RawStreamMsg, upTo uint64, err error) {
	found, upTo, err := Newest(ctx, nc, stream, subject, other)
	for _, m := range found {
		if m.Subject == subject {
			raw = m
		}
	}
	return raw, upTo, err
}
