package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	ownership "fleetbridge/bridge/cluster"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
)

// get reads the last message of a subject as it is after all that this term knows to be stored. Any replica may answer;
// the answer says how far that one was, and one that lags is asked again.
func (f *fence) get(ctx context.Context, nc *nats.Conn, subject string) (*jetstream.RawStreamMsg, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		known := f.newest()
		raw, upTo, err := newestOf(ctx, nc, f.stream, subject, f.subject)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", f.stream, err)
		}
		if ownership.Proves(upTo, known) {
			if raw == nil {
				return nil, jetstream.ErrMsgNotFound
			}
			return raw, nil
		}
		if err := f.lagging(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// newestOf reads the last message of one of two subjects, nil: there is none, and how far the replica was that answered.
// The other subject is there for certain: of nothing no replica says how far it is.
func newestOf(ctx context.Context, nc *nats.Conn, stream, subject, other string) (raw *jetstream.RawStreamMsg, upTo uint64, err error) {
	found, upTo, err := allOf(ctx, nc, stream, subject, other)
	for _, m := range found {
		if m.Subject == subject {
			raw = m
		}
	}
	return raw, upTo, err
}

// errTooMany: there are more subjects than a server reads at once, which is about a thousand.
var errTooMany = errors.New("direct get: too many subjects")

// firstPatience is how long the first replica that is asked may take, and the next one twice as long.
const firstPatience = 150 * time.Millisecond

// allOf reads the last message of each subject, and how far the replica was that answered. upTo is 0 when there is none. The server chooses the
// replica. One that stands still is chosen for a minute and more, so another is asked soon.
func allOf(ctx context.Context, nc *nats.Conn, stream string, subjects ...string) (found []*jetstream.RawStreamMsg, upTo uint64, err error) {
	for patience := firstPatience; ; patience *= 2 {
		try, cancel := context.WithTimeout(ctx, patience)
		found, upTo, err = askReplica(try, nc, stream, subjects)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return found, upTo, err
		}
	}
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
			return nil, 0, errTooMany
		case "503": // no replica is ready
			return nil, 0, jetstream.ErrNoStreamResponse
		default:
			return nil, 0, fmt.Errorf("direct get: %s %s", status, m.Header.Get("Description"))
		}
	}
}

// lagging waits for a replica, or for the marker.
func (f *fence) lagging(ctx context.Context, pause time.Duration) error {
	if err := flow.Sleep(ctx, pause); err != nil {
		return fmt.Errorf("stream %s: the replicas lag behind what is stored: %w", f.stream, err)
	}
	if pause < 32*time.Millisecond {
		return nil
	}
	return f.check(ctx)
}

// list calls each for what a bucket has under some keys, at least as it was when the term began. It asks replicas, as get
// does: a consumer might be made on a server that stands still.
func (f *fence) list(ctx context.Context, b *bucket, keys string, each func(key string, value []byte) error) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		try, cancel := context.WithTimeout(ctx, answerTime)
		found, upTo, err := allOf(try, b.js.Conn(), f.stream, b.subject(keys), f.subject)
		cancel()
		if errors.Is(err, errTooMany) {
			return f.listMany(ctx, b, keys, each)
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", f.stream, err)
		}
		if ownership.Proves(upTo, f.fencedAt()) {
			for _, m := range found {
				if m.Subject == f.subject || m.Header.Get(wire.HeaderOperation) != "" {
					continue
				}
				if err := each(m.Subject[len(b.subject("")):], m.Data); err != nil {
					return err
				}
			}
			return nil
		}
		if err := f.lagging(ctx, pause); err != nil {
			return err
		}
	}
}

// listMany is list by a consumer, however many keys there are. The replica that the keys come from is as far as it has to be
// if the marker is among them.
func (f *fence) listMany(ctx context.Context, b *bucket, keys string, each func(key string, value []byte) error) error {
	marker := f.subject[len(b.subject("")):]
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		proved := false
		var found []jetstream.KeyValueEntry
		err := eachEntryOf(ctx, b.kv, []string{keys, marker}, func(e jetstream.KeyValueEntry) error {
			if e.Key() == marker {
				proved = ownership.Proves(e.Revision(), f.fencedAt())
			} else {
				found = append(found, e)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if proved {
			for _, e := range found {
				if err := each(e.Key(), e.Value()); err != nil {
					return err
				}
			}
			return nil
		}
		if err := f.lagging(ctx, pause); err != nil {
			return err
		}
	}
}

func (f *fence) fencedAt() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.marker
}
