package fleetstest

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
)

// T is what the helpers need of a *testing.T or *testing.B. The package does not import testing,
// because programs are built with it too.
type T interface {
	Helper()
	Cleanup(func())
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// Expectation permits warnings.
type Expectation string

// Expect permits lines at WARN or above that contain the substring, in the message or the attributes.
func Expect(substring string) Expectation { return Expectation(substring) }

// Log returns a logger that writes into the test's log and fails the test on every line at WARN or
// above that it was not told to expect. Lines that come after the test's end are dropped.
func Log(t T, expected ...Expectation) *slog.Logger {
	w := &testLog{t: t, expected: expected}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.over = true
	})
	text := slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			a.Value = slog.StringValue(a.Value.Time().Format("05.000"))
		}
		return a
	}})
	return slog.New(text)
}

// testLog is written to once a line, by slog's contract.
type testLog struct {
	t        T
	expected []Expectation
	mu       sync.Mutex
	over     bool
}

func (w *testLog) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return len(line), nil
	}
	w.t.Helper()
	text := string(bytes.TrimSpace(line))
	if w.fails(text) {
		w.t.Errorf("unexpected: %s", text)
	} else {
		w.t.Logf("%s", text)
	}
	return len(line), nil
}

// fails reads the level from the line: the handler writes time and level first.
func (w *testLog) fails(text string) bool {
	_, rest, _ := strings.Cut(text, " level=")
	level, _, _ := strings.Cut(rest, " ")
	if !strings.HasPrefix(level, "WARN") && !strings.HasPrefix(level, "ERROR") {
		return false
	}
	for _, e := range w.expected {
		if strings.Contains(text, string(e)) {
			return false
		}
	}
	return true
}

func orDiscard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// quiet turns a library's levels down to debug.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return q.Handler.Enabled(ctx, slog.LevelDebug)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }
func (q quiet) WithGroup(n string) slog.Handler      { return quiet{q.Handler.WithGroup(n)} }
