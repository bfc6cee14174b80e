package bridge

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fleetbridge/mapping"
)

// letterLog logs that messages become dead letters, with their number, at most once in letterPause for each channel and
// code. It logs, too, when a message of the channel is taken again.
type letterLog struct {
	log       *slog.Logger
	direction mapping.Direction

	open atomic.Bool // a WARN stands
	mu   sync.Mutex
	of   map[letterKind]*letterCount
}

type letterKind struct {
	channel mapping.Channel
	code    Code
}

type letterCount struct {
	at    time.Time // of the last WARN
	since int       // letters that no WARN has counted
	open  bool
}

const letterPause = time.Minute

// dead notes a dead letter.
func (l *letterLog) dead(c mapping.Channel, r *Rejection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[letterKind]*letterCount{}
	}
	n := l.of[letterKind{c, r.Code}]
	if n == nil {
		n = &letterCount{}
		l.of[letterKind{c, r.Code}] = n
	}
	n.since++
	now := time.Now()
	if now.Sub(n.at) < letterPause {
		return
	}
	l.log.Warn("messages become dead letters; see fleetbridge dead ls", "direction", l.direction.String(), "channel", c,
		"code", r.Code, "messages", n.since, "error", r.Reason)
	n.at, n.since, n.open = now, 0, true
	l.open.Store(true)
}

// taken notes a message that did not become a dead letter.
func (l *letterLog) taken(c mapping.Channel) {
	if !l.open.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	left := false
	for kind, n := range l.of {
		if n.open && kind.channel == c {
			l.log.Info("a message of the channel is taken again", "direction", l.direction.String(), "channel", c,
				"code", kind.code, "dead_since", n.since)
			n.open = false
		}
		left = left || n.open
	}
	l.open.Store(left)
}
