package gateway

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A log is read by people, and disks fill: whatever programs, strangers and brokers do, of one message of one logger
// only so many lines a minute are written, and of all loggers together only so many more. What is left out goes to level
// debug, and is counted at the end of the minute. A Thing's logger is one of its own.
const (
	logLines  = 20  // of one logger
	logAll    = 500 // of all
	logPeriod = time.Minute
	// logKinds bounds the messages that are counted, of one logger and of all, as some of the NATS server's are different
	// each time. Of those beyond, a logger's are counted with all, and all of a level together.
	logKinds = 512
)

// logBound is a slog.Handler that writes so many lines and no more.
type logBound struct {
	next  slog.Handler
	scope string // the attributes of the logger
	kinds *logCounts
}

// boundLog is log with a bound on each of its messages.
func boundLog(log *slog.Logger) *slog.Logger {
	return slog.New(logBound{next: log.Handler(), kinds: &logCounts{root: log.Handler(), own: map[logKind]*logCount{}, all: map[logKind]*logCount{}}})
}

// logKind is what is counted.
type logKind struct {
	scope, message string
	level          slog.Level
}

type logCounts struct {
	root slog.Handler
	mu   sync.Mutex
	own  map[logKind]*logCount // of one logger
	all  map[logKind]*logCount // without the scope
}

// logCount is of one kind, in the minute that began with its first line.
type logCount struct{ lines, left int }

func (b logBound) Enabled(ctx context.Context, l slog.Level) bool { return b.next.Enabled(ctx, l) }

func (b logBound) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		b.scope += a.String() + " "
	}
	b.next = b.next.WithAttrs(attrs)
	return b
}

func (b logBound) WithGroup(name string) slog.Handler {
	b.scope += name + "."
	b.next = b.next.WithGroup(name)
	return b
}

func (b logBound) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo || b.take(r.Level, r.Message) {
		return b.next.Handle(ctx, r)
	}
	if !b.next.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	r.Level = slog.LevelDebug
	return b.next.Handle(ctx, r)
}

// take reports whether one more line of the kind may be written.
func (b logBound) take(level slog.Level, message string) bool {
	k := b.kinds
	k.mu.Lock()
	defer k.mu.Unlock()
	own := k.count(k.own, logKind{b.scope, message, level}, b.next)
	if own != nil && own.lines >= logLines {
		own.left++
		return false
	}
	all, most := k.count(k.all, logKind{message: message, level: level}, k.root), logAll
	if all == nil {
		all, most = k.count(k.all, logKind{message: manyKinds, level: level}, k.root), logLines
	}
	if all.lines >= most {
		all.left++
		return false
	}
	if own != nil {
		own.lines++
	}
	all.lines++
	return true
}

const manyKinds = "messages of many kinds"

// count is what is counted of a kind, whose end is written to out; nil: there are too many kinds.
func (k *logCounts) count(of map[logKind]*logCount, kind logKind, out slog.Handler) *logCount {
	c := of[kind]
	if c == nil && (len(of) < logKinds || kind.message == manyKinds) {
		c = &logCount{}
		of[kind] = c
		time.AfterFunc(logPeriod, func() { k.end(of, kind, out) })
	}
	return c
}

// end says how much of a kind was left out in its minute.
func (k *logCounts) end(of map[logKind]*logCount, kind logKind, out slog.Handler) {
	k.mu.Lock()
	left := of[kind].left
	delete(of, kind)
	k.mu.Unlock()
	if left == 0 {
		return
	}
	r := slog.NewRecord(time.Now(), kind.level, "more of a message was left out of the log, as there is too much of it; level debug has it all", 0)
	r.AddAttrs(slog.String("message", kind.message), slog.Int("lines", left))
	_ = out.Handle(context.Background(), r)
}
