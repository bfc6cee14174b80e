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

	"fleetbridge/bridge/local/wire"
)

// Ask asks for the first message from a sequence on, of a subject, or for the last one of a subject.
type Ask struct {
	From uint64 `json:"seq,omitempty"`
	Next string `json:"next_by_subj,omitempty"`
	Last string `json:"last_by_subj,omitempty"`
}

// Get reads a message of a stream as the leader has it. One whose headers can't be read comes without them. The client
// library does neither: it reads from any replica, whose answers are headers, and gives an error for what it can't read.
func Get(ctx context.Context, nc *nats.Conn, stream string, ask Ask) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, wire.APITimeout)
	defer cancel()
	request, _ := json.Marshal(ask)
	answer, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, request)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", stream, err)
	}
	var got struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return nil, fmt.Errorf("stream %s: %w", stream, err)
	}
	switch m := got.Message; {
	case got.Error == nil:
		h, _ := nats.DecodeHeadersMsg(m.Header)
		return &jetstream.RawStreamMsg{Subject: m.Subject, Sequence: m.Sequence, Header: h, Data: m.Data, Time: m.Time}, nil
	case got.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, jetstream.ErrMsgNotFound
	}
	return nil, got.Error
}

// Count counts the messages of a stream under a filter. The server says with the first how many more there are.
func Count(ctx context.Context, nc *nats.Conn, stream, filter string) (uint64, error) {
	ask, _ := json.Marshal(map[string]any{"seq": 1, "next_by_subj": filter, "batch": 1}) // texts and numbers
	first, err := nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream, ask)
	if err != nil {
		return 0, err
	}
	if status := first.Header.Get("Status"); status == "404" {
		return 0, nil
	} else if status != "" {
		return 0, fmt.Errorf("the server answers %s %s", status, first.Header.Get("Description"))
	}
	more, err := strconv.ParseUint(first.Header.Get("Nats-Num-Pending"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the server does not say how many messages %s has; use NATS 2.11 or later", filter)
	}
	return more + 1, nil
}

// ReadOne returns nil for a message that the server can't read.
func ReadOne(ctx context.Context, stream jetstream.Stream, seq uint64) (*jetstream.RawStreamMsg, error) {
	m, err := stream.GetMsg(ctx, seq)
	if wire.APICode(err) == jetstream.JSErrCodeMessageNotFound { // the server has looked
		return nil, nil
	}
	return m, err
}

// MaxHoles is of how many removed messages the server is asked for a list: it has ten bytes for each, and the server
// closes the connection of whoever leaves 64 MiB unread. One message that waits while millions pass leaves so many.
const MaxHoles = 1 << 20

// Detailed is the state of a stream, with the sequences of what was removed from between and of what the server has lost. If
// those are too many to list, it has neither.
func Detailed(ctx context.Context, stream jetstream.Stream) (info *jetstream.StreamInfo, listed bool, err error) {
	info, err = stream.Info(ctx)
	if err != nil || info.State.NumDeleted > MaxHoles {
		return info, false, err
	}
	info, err = stream.Info(ctx, jetstream.WithDeletedDetails(true))
	return info, true, err
}

// Entries calls f for what a bucket has under some keys, until f returns an error, which it returns. It makes a consumer.
func Entries(ctx context.Context, kv jetstream.KeyValue, keys []string, f func(jetstream.KeyValueEntry) error) error {
	watch, err := kv.WatchFiltered(ctx, keys, jetstream.IgnoreDeletes())
	if err != nil {
		return err
	}
	defer func() { _ = watch.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, ok := <-watch.Updates():
			if !ok {
				return errors.New("the watch ended early")
			}
			if entry == nil { // all that was there has been told
				return nil
			}
			if err := f(entry); err != nil {
				return err
			}
		}
	}
}

// AnswerTime is how long an answer may take before the try counts as failed: the answer may have gone
// down with a connection. Whoever asked asks again, and every change may be made twice.
const AnswerTime = 5 * time.Second

// moment is how long the first leader that is asked may take, and how much longer each next time.
const moment = 500 * time.Millisecond

// Again asks a stream's leader until it answers, or ctx or wire.APITimeout ends: one that stands still takes questions and
// writes and answers none, and some seconds later another one is elected. So what f does may be done more than once.
func Again(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, wire.APITimeout)
	defer cancel()
	return AgainFrom(ctx, 0, f)
}

// AgainFrom is Again for what may take as long as first before it is done again; only ctx bounds it.
func AgainFrom(ctx context.Context, first time.Duration, f func(context.Context) error) error {
	return patiently(ctx, max(first, moment), func(d time.Duration) time.Duration { return d + moment }, f)
}

// patiently calls f until its time was enough, or ctx ends. The first call may take so long, and each further one as long as
// more makes of the time before.
func patiently(ctx context.Context, patience time.Duration, more func(time.Duration) time.Duration, f func(context.Context) error) error {
	for ; ; patience = more(patience) {
		try, cancel := context.WithTimeout(ctx, patience)
		err := f(try)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}
}
