package ownership

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge/cluster"
	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/flow"
)

// Fence lets a stream take writes only from the owner of the epoch whose marker is in it. The server compares.
type Fence struct {
	term    *Term
	js      jetstream.JetStream
	stream  string
	subject string        // of the marker
	writing chan struct{} // holds one: of two checked writes at once a cluster refuses one

	mu     sync.Mutex
	marker uint64 // its sequence
	known  uint64 // sequence of the newest write of this term
	doubt  bool   // a write was sent, and nobody has said what became of it
}

// ErrFenced: the Things of this write are another bridge's.
var ErrFenced = errors.New("another bridge owns the things; what this one writes is refused")

const (
	codeFenced = 10071 // another marker, or none
	busyPause  = 5 * time.Millisecond
	// busyWriting is the pause while a write of one's own may be what a slow disk is busy with.
	busyWriting = 50 * time.Millisecond
)

// NewFence puts the term's marker into a stream. From then on no older epoch can write there.
func NewFence(ctx context.Context, t *Term, js jetstream.JetStream, stream, subject string) (*Fence, error) {
	f := &Fence{term: t, js: js, stream: stream, subject: subject, writing: make(chan struct{}, 1)}
	if err := f.raise(ctx); err != nil {
		return nil, fmt.Errorf("stream %s: the marker of epoch %d: %w", stream, t.Epoch, err)
	}
	return f, nil
}

// Marked returns the epoch of a marker as the leader has it; 0: there is no such marker, or stream.
func Marked(ctx context.Context, js jetstream.JetStream, stream, subject string) (uint64, error) {
	_, err := js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", stream, err)
	}
	m, _, err := marker(ctx, js.Conn(), stream, subject)
	if err != nil || m == nil {
		return 0, err
	}
	return m.Epoch, nil
}

func (f *Fence) look(ctx context.Context) (*cluster.Marker, uint64, error) {
	return marker(ctx, f.js.Conn(), f.stream, f.subject)
}

// marker reads a marker as the leader has it, nil: there is none.
func marker(ctx context.Context, nc *nats.Conn, stream, subject string) (*cluster.Marker, uint64, error) {
	raw, err := streams.Get(ctx, nc, stream, streams.Ask{Last: subject})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	m := &cluster.Marker{}
	if err := json.Unmarshal(raw.Data, m); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", subject, err)
	}
	return m, raw.Sequence, nil
}

// raise puts the marker in the place of an older one, or of none.
func (f *Fence) raise(ctx context.Context) error {
	for {
		err := streams.Again(ctx, f.put)
		switch wire.APICode(err) {
		case codeFenced, wire.CodeBusy: // somebody else was faster, or the leader was none any more
			if err := flow.Sleep(ctx, busyPause); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// put is one try of raise.
func (f *Fence) put(ctx context.Context) error {
	m, before, err := f.look(ctx)
	if err != nil {
		return err
	}
	if !cluster.Raise(f.term.Epoch, m) {
		return f.superseded()
	}
	return f.replace(ctx, before)
}

// replace puts the marker in the place of the one at a sequence, 0: of none.
func (f *Fence) replace(ctx context.Context, before uint64) error {
	value, _ := json.Marshal(cluster.Marker{Epoch: f.term.Epoch, Bridge: f.term.ID})
	ack, err := f.js.Publish(ctx, f.subject, value, jetstream.WithExpectLastSequencePerSubject(before))
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.marker, f.known, f.doubt = ack.Sequence, max(f.known, ack.Sequence), false
	return nil
}

// Unanswered says that a write was sent, and that nobody has said what became of it.
func (f *Fence) Unanswered() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.doubt = true
}

// Clear has the stream refuse what was sent and not answered, if there is such a write: a server that stands still may have
// it, and hand it on when it goes on, which may be behind what is written next. So the marker is put once more, as that
// write names the one before.
func (f *Fence) Clear(ctx context.Context) error {
	if f == nil {
		return nil
	}
	for {
		f.mu.Lock()
		doubt := f.doubt
		f.mu.Unlock()
		if !doubt {
			return nil
		}
		if err := f.check(ctx); err != nil {
			return err
		}
		err := f.replace(ctx, f.fencedAt())
		switch wire.APICode(err) {
		case codeFenced, wire.CodeBusy: // such as with that write
			if err := flow.Sleep(ctx, busyWriting); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

func (f *Fence) superseded() error {
	f.term.lost(f.stream)
	return ErrFenced
}

// Stamp has the server compare the marker before it stores the message, or the group that it begins. A nil fence asks
// for nothing.
func (f *Fence) Stamp(h nats.Header) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h[jetstream.ExpectedLastSubjSeqHeader], h[jetstream.ExpectedLastSubjSeqSubjHeader] = []string{strconv.FormatUint(f.marker, 10)}, []string{f.subject}
}

// Wrote notes a write that was stored.
func (f *Fence) Wrote(seq uint64) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = max(f.known, seq)
}

// Again judges the failure of a write. It is true when the write is to be tried again at once, and else returns the error,
// ErrFenced among them.
func (f *Fence) Again(ctx context.Context, err error) (bool, error) {
	if f == nil {
		return false, err
	}
	switch wire.APICode(err) {
	case wire.CodeBusy:
		return flow.Sleep(ctx, busyPause) == nil, err
	case codeFenced:
	default:
		return false, err
	}
	err = f.check(ctx)
	return err == nil, err
}

// check looks whether the marker is there, and puts it back if it is nobody's.
func (f *Fence) check(ctx context.Context) error {
	var m *cluster.Marker
	var seq uint64
	err := streams.Again(ctx, func(ctx context.Context) (err error) {
		m, seq, err = f.look(ctx)
		return err
	})
	if err != nil {
		return err
	}
	switch cluster.Refusal(f.term.Epoch, m) {
	case cluster.Again:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.marker = seq
		return nil
	case cluster.PutBack: // a full stream has dropped it
		if err := f.term.Verified(ctx); err != nil {
			return err
		}
		return f.raise(ctx)
	}
	return f.superseded()
}

// Newest is the sequence of the newest write of this term.
func (f *Fence) Newest() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known
}

// Write stores one message. Writes are stored one after the other.
func (f *Fence) Write(ctx context.Context, m *nats.Msg) error {
	select {
	case f.writing <- struct{}{}:
		defer func() { <-f.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		err := streams.Again(ctx, func(ctx context.Context) error {
			if err := f.Clear(ctx); err != nil {
				return err
			}
			f.Stamp(m.Header)
			ack, err := f.js.PublishMsg(ctx, m)
			switch {
			case err == nil:
				f.Wrote(ack.Sequence)
			case wire.APICode(err) == 0:
				f.Unanswered()
			}
			return err
		})
		if err == nil {
			return nil
		}
		if again, err := f.Again(ctx, err); !again {
			return err
		}
	}
}
