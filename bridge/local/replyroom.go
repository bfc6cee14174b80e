package local

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fleetbridge/bridge/local/streams"
	"fleetbridge/bridge/local/wire"
)

// replyRoom keeps one Thing's replies from filling the stream of all: programs write there without asking the bridge, and a
// full stream takes no more. Each bridge of a cluster looks after it, as replies count most while a shard has no owner.
type replyRoom struct {
	*shares
	store   *Store
	removed atomic.Uint64
	end     context.CancelFunc
	work    sync.WaitGroup
}

const (
	// repliesKept is how much may be there before somebody has to give way: two thirds of three quarters of the stream. The
	// other half is what comes until the bridge looks again.
	repliesKept = repliesBytes * 2 / 3
	// The stream is looked at so often, and oftener while it fills.
	replyPause     = 500 * time.Millisecond
	replyPauseBusy = 50 * time.Millisecond
)

func (s *Store) openReplyRoom(ctx context.Context) (*replyRoom, error) {
	of, err := s.sharesOf(ctx, s.cfg.Subjects.Name(wire.StreamReplies), repliesKept)
	if err != nil {
		return nil, err
	}
	r := &replyRoom{shares: of, store: s}
	space := wire.ReplySpace(s.cfg.Subjects)
	r.token = func(subject string) string {
		token, _, _ := strings.Cut(strings.TrimPrefix(subject, space), ".")
		return token
	}
	r.filter = func(token string) string { return space + token + ".>" }
	r.cut = func(token string, gone int) {
		r.removed.Add(uint64(gone))
		s.log.Warn("the replies to a Thing's commands have more than their share of the room; its oldest are removed. A bridge that takes the Thing over does not find them",
			"thing", wire.ThingOf(token), "replies", gone, "mend", "look for a program that replies to nothing: users with commands for this thing may")
	}
	run, end := context.WithCancel(context.Background())
	r.end = end
	r.work.Go(func() { r.tend(run) })
	return r, nil
}

func (r *replyRoom) close() {
	if r != nil {
		r.end()
		r.work.Wait()
	}
}

// tend looks again and again, and makes room before there is none.
func (r *replyRoom) tend(ctx context.Context) {
	next, before := time.NewTimer(0), int64(0)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-ctx.Done():
			return
		}
		held, err := r.look(ctx)
		if err != nil && ctx.Err() == nil {
			r.log.Warn("cannot make room for replies to commands; when there is none, those that come while no bridge has a thing are lost", "error", err)
		}
		pause := replyPause
		if held-before > r.limit/32 {
			pause = replyPauseBusy
		}
		before = held
		next.Reset(pause)
	}
}

// countTime is enough to count maxLetters replies on a busy machine.
const countTime = 2 * time.Minute

// look returns how much is there, and makes room if that is too much.
func (r *replyRoom) look(ctx context.Context) (held int64, err error) {
	asking, cancel := context.WithTimeout(ctx, streams.AnswerTime)
	defer cancel()
	stream, err := r.store.js.Stream(asking, r.store.cfg.Subjects.Name(wire.StreamReplies))
	if err != nil {
		return 0, nil // Check finds that, too
	}
	state := stream.CachedInfo().State
	r.mu.Lock()
	defer r.mu.Unlock()
	held = int64(max(state.Bytes, state.Msgs*uint64(r.least)))
	if r.things = max(len(*r.store.things.Load()), 1); held <= r.limit*3/4 {
		return held, nil
	}
	counting, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	return held, r.trim(counting, 0)
}

// RepliesRemoved counts the replies that this bridge has removed, as their Things had more than their share.
func (s *Store) RepliesRemoved() uint64 {
	if s.replyRoom == nil {
		return 0
	}
	return s.replyRoom.removed.Load()
}
