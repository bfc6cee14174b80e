package local

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// history bounds how many subjects the stream of what came down has. The embedded server keeps half a kilobyte of memory
// for each, and ids of jobs and executions stand in subjects: so a cloud that invents ids would fill the memory long
// before nats.down.max_bytes. The older half of the messages goes until there are few enough.
type history struct {
	stream jetstream.Stream
	most   func() int // subjects
	log    *slog.Logger

	came atomic.Uint64 // messages
	look chan struct{} // so many have come that the subjects are counted
	end  context.CancelFunc
	work sync.WaitGroup
}

const (
	// maxSubjects is what any gateway may have; one with many Things may have subjectsOfThing for each.
	maxSubjects     = 128 << 10
	subjectsOfThing = 32
	// lookEvery is after how many messages the subjects are counted.
	lookEvery = 16 << 10
)

func (s *Store) mostSubjects() int { return max(maxSubjects, subjectsOfThing*len(*s.things.Load())) }

func newHistory(stream jetstream.Stream, most func() int, log *slog.Logger) *history {
	ctx, end := context.WithCancel(context.Background())
	h := &history{stream: stream, most: most, log: log, look: make(chan struct{}, 1), end: end}
	h.work.Go(func() { h.run(ctx) })
	return h
}

// stored counts a message, which may be nobody's: h may be nil.
func (h *history) stored() {
	if h != nil && h.came.Add(1)%lookEvery == 0 {
		signal(h.look)
	}
}

func (h *history) close() {
	if h != nil {
		h.end()
		h.work.Wait()
	}
}

func (h *history) run(ctx context.Context) {
	var said time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.look:
		}
		before, after, err := h.trim(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			h.log.Warn("the messages from the cloud have many subjects, and the oldest could not be deleted; it is tried again", "error", err)
		case after < before && due(&said, time.Now()):
			h.log.Warn("the messages from the cloud have more subjects than there is memory for: the oldest are deleted from the history",
				"stream", h.stream.CachedInfo().Config.Name, "subjects", before, "at_most", h.most(), "left", after)
		}
	}
}

// trim deletes until there are few enough subjects. It returns how many there were and are.
func (h *history) trim(ctx context.Context) (before, after uint64, err error) {
	for {
		state, err := h.state(ctx)
		if err != nil {
			return before, after, err
		}
		after = state.NumSubjects
		before = max(before, after)
		if after <= uint64(h.most()) || state.Msgs < 2 {
			return before, after, nil
		}
		if err := h.stream.Purge(ctx, jetstream.WithPurgeSequence(state.FirstSeq+(state.LastSeq-state.FirstSeq)/2+1)); err != nil {
			return before, after, err
		}
	}
}

func (h *history) state(ctx context.Context) (jetstream.StreamState, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	info, err := h.stream.Info(ctx)
	if err != nil {
		return jetstream.StreamState{}, err
	}
	return info.State, nil
}
