package local

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/mapping"
)

// Waiting is what waits for the cloud, for people. With nats.url it is read from the streams; with the embedded server the
// running bridge is asked, which has the journal. It makes a consumer only if a stream has many subjects, for some seconds.
type Waiting struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	subjects mapping.Subjects
}

// WaitingLane is what waits of a Thing and kind.
type WaitingLane struct {
	Thing    string    `json:"thing"`
	Kind     string    `json:"kind"`
	Messages uint64    `json:"messages"`
	Bytes    uint64    `json:"bytes,omitempty"` // 0: not known
	Oldest   time.Time `json:"oldest"`          // when it was stored
}

// WaitingMessage is one of them.
type WaitingMessage struct {
	Thing    string    `json:"thing"`
	Kind     string    `json:"kind"`
	Sequence uint64    `json:"seq"`
	Stored   time.Time `json:"stored"`
	Subject  string    `json:"subject"`
	Payload  []byte    `json:"payload"`
}

// ErrConfigured is the error of Drop for a Thing that is being sent.
var ErrConfigured = errors.New("a bridge sends what waits of this Thing; take it out of things first, wait for the reload, and add it again afterwards")

// NewWaiting looks at the queues of the bridge with these subjects.
func NewWaiting(nc *nats.Conn, subjects mapping.Subjects) (*Waiting, error) {
	js, err := wire.JetStream(nc)
	return &Waiting{nc, js, subjects}, err
}

// waitingQuestion is what a bridge is asked. Thing and Kind may be empty: all.
type waitingQuestion struct {
	Do    string `json:"do"` // lanes, messages or drop
	Thing string `json:"thing,omitempty"`
	Kind  string `json:"kind,omitempty"`
	After string `json:"after,omitempty"` // of lanes: the last one; of messages: the lane that is read
	Past  uint64 `json:"past,omitempty"`  // of messages: the number of the last one
}

// waitingAnswer is a part of an answer. It ends with More false.
type waitingAnswer struct {
	Lanes    []WaitingLane    `json:"lanes,omitempty"`
	Messages []WaitingMessage `json:"messages,omitempty"`
	Dropped  uint64           `json:"dropped,omitempty"`
	After    string           `json:"after,omitempty"`
	Past     uint64           `json:"past,omitempty"`
	More     bool             `json:"more,omitempty"`
	Error    string           `json:"error,omitempty"`
	Sends    bool             `json:"sends,omitempty"` // ErrConfigured
}

// waitingSubject is where a bridge with the embedded server is asked.
func waitingSubject(s mapping.Subjects) string { return "_" + s.Prefix() + ".waiting" }

// Lanes are those in which something waits, by Thing and kind. Empty names mean all.
func (w *Waiting) Lanes(ctx context.Context, t mapping.Thing, kind string) (out []WaitingLane, err error) {
	all, err := w.streams(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		err := w.ask(ctx, waitingQuestion{Do: "lanes", Thing: string(t), Kind: kind}, func(a *waitingAnswer) error {
			out = append(out, a.Lanes...)
			return nil
		})
		return out, err
	}
	for _, stream := range all {
		held, err := w.held(ctx, stream, t, kind)
		if err != nil {
			return nil, err
		}
		for of, n := range held {
			l := WaitingLane{Thing: wire.ThingOf(of.token), Kind: of.kind.String(), Messages: n}
			m, err := streams.Get(ctx, w.nc, stream.CachedInfo().Config.Name, streams.Ask{From: 1, Next: w.filter(of)})
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue // sent meanwhile
			}
			if err != nil {
				return nil, err
			}
			l.Oldest = m.Time
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b WaitingLane) int {
		return cmp.Or(cmp.Compare(a.Thing, b.Thing), cmp.Compare(a.Kind, b.Kind))
	})
	return out, nil
}

// Each calls f for what waits, lane after lane, the oldest first, until f returns an error.
func (w *Waiting) Each(ctx context.Context, t mapping.Thing, kind string, f func(WaitingMessage) error) error {
	all, err := w.streams(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return w.ask(ctx, waitingQuestion{Do: "messages", Thing: string(t), Kind: kind}, func(a *waitingAnswer) error {
			for _, m := range a.Messages {
				if err := f(m); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for _, stream := range all {
		held, err := w.held(ctx, stream, t, kind)
		if err != nil {
			return err
		}
		for _, of := range slices.SortedFunc(maps.Keys(held), func(a, b queueKey) int { return cmp.Or(cmp.Compare(a.token, b.token), cmp.Compare(a.kind, b.kind)) }) {
			for seq := uint64(1); ; {
				m, err := streams.Get(ctx, w.nc, stream.CachedInfo().Config.Name, streams.Ask{From: seq, Next: w.filter(of)})
				if errors.Is(err, jetstream.ErrMsgNotFound) {
					break
				}
				if err == nil {
					err = f(WaitingMessage{wire.ThingOf(of.token), of.kind.String(), m.Sequence, m.Time, m.Subject, m.Data})
				}
				if err != nil {
					return err
				}
				seq = m.Sequence + 1
			}
		}
	}
	return nil
}

// Drop removes what waits of a Thing that no bridge sends, of one kind or of all, and returns how many messages that
// were. The error is ErrConfigured if one does.
func (w *Waiting) Drop(ctx context.Context, t mapping.Thing, kind string) (n uint64, err error) {
	all, err := w.streams(ctx)
	if err != nil {
		return 0, err
	}
	if len(all) == 0 {
		err := w.ask(ctx, waitingQuestion{Do: "drop", Thing: string(t), Kind: kind}, func(a *waitingAnswer) error {
			n += a.Dropped
			return nil
		})
		return n, err
	}
	if status, err := StatusOf(ctx, w.nc, w.subjects, t); err != nil || status != nil {
		return 0, cmp.Or(err, ErrConfigured)
	}
	for _, stream := range all {
		held, err := w.held(ctx, stream, t, kind)
		if err != nil {
			return n, err
		}
		for of, messages := range held {
			if err := stream.Purge(ctx, jetstream.WithPurgeSubject(w.filter(of))); err != nil {
				return n, err
			}
			n += messages
		}
	}
	return n, nil
}

// streams are those of the queues; none with the embedded server.
func (w *Waiting) streams(ctx context.Context) (out []jetstream.Stream, err error) {
	for _, class := range mapping.Classes {
		stream, err := w.js.Stream(ctx, w.subjects.Name(wire.UpStream(class)))
		switch {
		case err == nil:
			out = append(out, stream)
		case !errors.Is(err, jetstream.ErrStreamNotFound):
			return nil, err
		}
	}
	return out, nil
}

// filter are the subjects of a lane.
func (w *Waiting) filter(of queueKey) string {
	return laneFilter(w.subjects.Space(mapping.SpaceUp), of)
}

// held counts what waits in a stream.
func (w *Waiting) held(ctx context.Context, stream jetstream.Stream, t mapping.Thing, kind string) (map[queueKey]uint64, error) {
	h := holding{w.nc, w.js, stream.CachedInfo().Config.Name, w.subjects.Space(mapping.SpaceUp)}
	others := func(of queueKey) bool { return !picks(of, t, kind) }
	held, err := h.list(ctx, unseenSubject)
	if held != nil || err != nil {
		maps.DeleteFunc(held, func(of queueKey, _ uint64) bool { return others(of) })
		return held, err
	}
	lanes, _, err := h.look(ctx)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(lanes, func(of queueKey, _ bool) bool { return others(of) })
	return h.countEach(ctx, lanes)
}

// picks reports whether a lane is of a Thing and kind; empty names mean all.
func picks(of queueKey, t mapping.Thing, kind string) bool {
	return (t == "" || of.token == mapping.Token(string(t))) && (kind == "" || of.kind.String() == kind)
}

// ask asks the bridge of an embedded server, part after part.
func (w *Waiting) ask(ctx context.Context, q waitingQuestion, f func(*waitingAnswer) error) error {
	for {
		body, _ := json.Marshal(q) // texts and numbers
		inner, cancel := context.WithTimeout(ctx, wire.APITimeout)
		m, err := w.nc.RequestWithContext(inner, waitingSubject(w.subjects), body)
		cancel()
		var a waitingAnswer
		if err == nil {
			err = json.Unmarshal(m.Data, &a)
		}
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return errors.New("no bridge answers, and there are no streams of one; is it running?")
		case err != nil:
			return fmt.Errorf("asking the bridge for what waits: %w", err)
		case a.Sends:
			return ErrConfigured
		case a.Error != "":
			return errors.New(a.Error)
		}
		if err := f(&a); err != nil || !a.More {
			return err
		}
		q.After, q.Past = a.After, a.Past
	}
}
