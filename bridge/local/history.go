package local

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fleetbridge/bridge/local/streams"
	"fleetbridge/internal/flow"

	"github.com/nats-io/nats.go/jetstream"
)

// history bounds the memory for the subjects of the stream of what came down. The embedded server keeps each several times,
// and ids of jobs and executions stand in subjects: so a cloud that invents ids would fill the memory long before
// nats.down.max_bytes. The older half of the messages goes until there are few enough.
type history struct {
	stream jetstream.Stream
	memory func() int // bytes
	log    *slog.Logger

	came  atomic.Uint64 // messages
	bytes atomic.Uint64 // of the subjects of those that came since the last look
	look  chan struct{} // so many have come that the subjects are counted
	end   context.CancelFunc
	work  sync.WaitGroup
}

const (
	// subjectMemory is what the subjects of any gateway may take; one with many Things may have subjectsOfThing for each.
	subjectMemory   = 64 << 20
	subjectsOfThing = 32
	// A subject takes subjectCost bytes of memory, and subjectCopies times its length.
	subjectCost   = 512
	subjectCopies = 4
	// lookEvery is after how many messages the subjects are counted.
	lookEvery = 8 << 10
)

func (s *Store) subjectMemory() int {
	return max(subjectMemory, subjectsOfThing*len(*s.things.Load())*2*subjectCost)
}

func newHistory(stream jetstream.Stream, memory func() int, log *slog.Logger) *history {
	ctx, end := context.WithCancel(context.Background())
	h := &history{stream: stream, memory: memory, log: log, look: make(chan struct{}, 1), end: end}
	h.work.Go(func() { h.run(ctx) })
	return h
}

// stored counts a message with a subject of so many bytes.
func (h *history) stored(subject int) {
	h.bytes.Add(uint64(subject))
	if h.came.Add(1)%lookEvery == 0 {
		flow.Signal(h.look)
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
		before, after, err := h.trim(ctx, int(h.bytes.Swap(0)/lookEvery))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			h.log.Warn("the messages from the cloud have many subjects, and the oldest could not be deleted; it is tried again", "error", err)
		case after < before && flow.Due(&said, time.Now()):
			h.log.Warn("the messages from the cloud have more subjects than there is memory for: the oldest are deleted from the history",
				"stream", h.stream.CachedInfo().Config.Name, "subjects", before, "left", after)
		}
	}
}

// trim deletes until there are few enough subjects, which have so many bytes on average. It returns how many there were
// and are.
func (h *history) trim(ctx context.Context, length int) (before, after uint64, err error) {
	most := uint64(h.memory() / (subjectCost + subjectCopies*length))
	for {
		state, err := h.state(ctx)
		if err != nil {
			return before, after, err
		}
		after = state.NumSubjects
		before = max(before, after)
		if after <= most || state.Msgs < 2 {
			return before, after, nil
		}
		if err := h.stream.Purge(ctx, jetstream.WithPurgeSequence(state.FirstSeq+(state.LastSeq-state.FirstSeq)/2+1)); err != nil {
			return before, after, err
		}
	}
}

func (h *history) state(ctx context.Context) (jetstream.StreamState, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.AnswerTime)
	defer cancel()
	info, err := h.stream.Info(ctx)
	if err != nil {
		return jetstream.StreamState{}, err
	}
	return info.State, nil
}
