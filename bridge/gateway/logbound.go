package gateway

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A log is read by people, and disks fill: whatever programs, strangers and brokers do, of one message of one logger
// only so many lines a minute are written. What is left out goes to level debug, and is counted at the end of the
// minute. A Thing's logger is one of its own.
const (
	logLines  = 20
	logPeriod = time.Minute
	// logKinds bounds the messages that are counted, as some of the NATS server's are different each time. Those beyond
	// are counted together.
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
	return slog.New(logBound{next: log.Handler(), kinds: &logCounts{of: map[logKind]*logCount{}}})
}

// logKind is what is counted.
type logKind struct{ scope, message string }

type logCounts struct {
	mu sync.Mutex
	of map[logKind]*logCount
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
	kind := logKind{b.scope, message}
	b.kinds.mu.Lock()
	defer b.kinds.mu.Unlock()
	if len(b.kinds.of) >= logKinds && b.kinds.of[kind] == nil {
		kind = logKind{message: "messages of many kinds"}
	}
	count := b.kinds.of[kind]
	if count == nil {
		count = &logCount{}
		b.kinds.of[kind] = count
		time.AfterFunc(logPeriod, func() { b.end(level, kind) })
	}
	if count.lines >= logLines {
		count.left++
		return false
	}
	count.lines++
	return true
}

// end says how much of a kind was left out in its minute.
func (b logBound) end(level slog.Level, kind logKind) {
	b.kinds.mu.Lock()
	left := b.kinds.of[kind].left
	delete(b.kinds.of, kind)
	b.kinds.mu.Unlock()
	if left == 0 {
		return
	}
	r := slog.NewRecord(time.Now(), level, "more of a message was left out of the log, as there is too much of it; level debug has it all", 0)
	r.AddAttrs(slog.String("message", kind.message), slog.Int("lines", left))
	_ = b.next.Handle(context.Background(), r)
}
