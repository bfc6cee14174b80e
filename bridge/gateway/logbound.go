package gateway

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// People read the log, and disks fill. So whatever programs, strangers and brokers do, one message is written at most logLines
// times a minute by one logger, and logAll times by all together. Each Thing has a logger of its own. What is left out is
// written at level debug instead, and counted at the end of the minute.
const (
	logLines  = 20  // of one logger
	logAll    = 500 // of all
	logPeriod = time.Minute
	// logKinds bounds how many different messages are counted, of one logger and of all, because some messages of the NATS
	// server are different each time. Messages beyond that are counted together, by level.
	logKinds = 512
)

// logBound is a slog.Handler that bounds how often each message is written.
type logBound struct {
	next  slog.Handler
	scope string // the attributes of the logger
	kinds *logCounts
}

// boundLog is log with a bound on each of its messages.
func boundLog(log *slog.Logger) *slog.Logger {
	return slog.New(logBound{next: log.Handler(), kinds: &logCounts{root: log.Handler(), own: map[logKind]*logCount{}, all: map[logKind]*logCount{}}})
}

// logKind is a message that is counted.
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

// logCount counts one kind, in the minute that began with its first line.
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

// count returns the count of a kind; at the end of its minute it is written to out. nil: there are too many kinds.
func (k *logCounts) count(of map[logKind]*logCount, kind logKind, out slog.Handler) *logCount {
	c := of[kind]
	if c == nil && (len(of) < logKinds || kind.message == manyKinds) {
		c = &logCount{}
		of[kind] = c
		time.AfterFunc(logPeriod, func() { k.end(of, kind, out) })
	}
	return c
}

// end logs how many lines of a kind were left out in its minute.
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
