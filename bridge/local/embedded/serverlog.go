package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"

	"fleetbridge/bridge/local/wire"
)

// serverLog passes the server's messages on; its notices are details of ours. What says in alarming words that the server
// does its work is a detail, too, and one line of ours stands for all of it. Fatalf doesn't end the process: what is fatal
// to the server shows as an error of Start or Listen.
type serverLog struct {
	log    *slog.Logger
	wrote  func(text string)
	reread *reread
}

func (l serverLog) Noticef(format string, v ...any) {
	l.log.Debug("nats: " + fmt.Sprintf(format, v...))
}

func (l serverLog) Warnf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if aboutClient(text) {
		l.log.Warn("nats: a client's trouble", "error", wire.OneLine(text, wire.MaxLine))
		return
	}
	level := slog.LevelWarn
	switch {
	case strings.Contains(text, "on write store state from purge"): // of consumers in memory, whose state nobody reads again
		level = slog.LevelDebug
	case l.reread.note(text):
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, "nats: "+text)
}

func (l serverLog) Fatalf(format string, v ...any) { l.log.Error("nats: " + fmt.Sprintf(format, v...)) }
func (l serverLog) Debugf(string, ...any)          {}
func (l serverLog) Tracef(string, ...any)          {}

func (l serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if aboutClient(text) {
		l.log.Warn("nats: a client's error", "error", wire.OneLine(withoutUser(text), wire.MaxLine))
		return
	}
	l.wrote(text)
	level := slog.LevelError
	switch {
	case strings.Contains(text, "failed to store a msg"): // once for each; its publisher has been told
		level = slog.LevelDebug
	case strings.Contains(text, "no space left on device"): // the bridge says that the disk refuses
		level = slog.LevelDebug
	case strings.Contains(text, "restoring partial batch"): // after a power cut; nobody had been told that it is stored
		level = slog.LevelInfo
	}
	l.log.Log(context.Background(), level, "nats: "+text)
}

var refusedUser = regexp.MustCompile(`(authentication error) - .*`)

// withoutUser leaves out who was refused: the name may be a password in the wrong field.
func withoutUser(text string) string { return refusedUser.ReplaceAllString(text, "$1") }

// aboutClient tells a message about a client's connection by the id that the server puts into it. A client can cause
// as many of these as it likes, so they are one message to the log, which bounds each.
func aboutClient(text string) bool { return strings.Contains(text, " - cid:") }

// reread gathers which streams the server reads from their files because the index that a stop writes is missing or old,
// as after a kill or a full disk. It says so in two lines and more for each.
type reread struct {
	mu      sync.Mutex
	streams map[string]bool
}

var indexTrouble = regexp.MustCompile(`^Filestore \[(\S+)\] (?:Stream state |Could not read stream state file|Recovering stream state from index errored)`)

// note reports whether a message is about that.
func (r *reread) note(text string) bool {
	m := indexTrouble.FindStringSubmatch(text)
	if m == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.streams == nil {
		r.streams = map[string]bool{}
	}
	r.streams[m[1]] = true
	return true
}

// say says it once for all streams. What of them is missing is said when the store is opened.
func (r *reread) say(log *slog.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.streams); n > 0 {
		log.Info("the store was not closed in good order; streams were read again from their files, and what is missing, if anything, is said", "streams", n)
	}
	clear(r.streams)
}
