package local

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// clientLog passes on what the server says about its clients: refusals, failed logins, broken protocol.
// A client can cause as many of these as it likes, so in a minute only the first are warnings.
type clientLog struct {
	log *slog.Logger

	mu    sync.Mutex
	since time.Time // begin of the minute
	told  int       // in it, however
}

const (
	clientLines  = 10
	clientPeriod = time.Minute
)

// aboutClient tells a message about a client's connection by the id that the server puts into it.
func aboutClient(text string) bool { return strings.Contains(text, " - cid:") }

func (l *clientLog) tell(text string) {
	l.mu.Lock()
	if now := time.Now(); now.Sub(l.since) >= clientPeriod {
		l.since, l.told = now, 0
	}
	l.told++
	n := l.told
	l.mu.Unlock()
	level := slog.LevelWarn
	if n > clientLines {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, "nats: "+text)
	if n == clientLines {
		l.log.Warn("more about clients of the NATS server in this minute is logged at level debug")
	}
}
