package fleetsim

import (
	"bytes"
	"context"
	"flag"
	"fmt"
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
	Failed() bool
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// Expectation permits warnings.
type Expectation string

// Expect permits lines at WARN or above that contain the substring, in the message or the attributes.
func Expect(substring string) Expectation { return Expectation(substring) }

// shownLines is how much of its log a failed test shows.
const shownLines = 40

// Log returns a logger that fails the test on every line at WARN or above that it was not told to expect.
// When a test has failed, its last lines at INFO and above come below what failed; with -v every line comes
// when it is logged. Lines that come after the test's end are dropped.
func Log(t T, expected ...Expectation) *slog.Logger {
	w := &testLog{t: t, expected: expected, live: verbose()}
	t.Cleanup(w.end)
	text := slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			a.Value = slog.StringValue(a.Value.Time().Format("05.000"))
		}
		return a
	}})
	return slog.New(text)
}

// verbose reports whether the tests run with -v.
func verbose() bool {
	f := flag.Lookup("test.v")
	return f != nil && f.Value.String() != "" && f.Value.String() != "false"
}

// Tail is what a failed test shows of the lines of a log: the last ones, under a heading that says how many there were.
func Tail(lines []string) string {
	heading := "the log"
	if n := len(lines); n > shownLines {
		heading, lines = fmt.Sprintf("the last %d of %d lines of the log", shownLines, n), lines[n-shownLines:]
	}
	return heading + ", without DEBUG (-v shows all):\n" + strings.Join(lines, "\n")
}

// testLog is written to once a line, by slog's contract.
type testLog struct {
	t        T
	expected []Expectation
	live     bool
	mu       sync.Mutex
	lines    []string // at INFO and above, unless they are shown live
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
	level := levelOf(text)
	switch failed := w.fails(level, text); {
	case failed:
		w.t.Errorf("unexpected: %s", text)
	case w.live:
		w.t.Logf("%s", text)
	}
	if !w.live && level != "DEBUG" {
		w.lines = append(w.lines, text)
	}
	return len(line), nil
}

// end shows what led to a failure.
func (w *testLog) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if len(w.lines) > 0 && w.t.Failed() {
		w.t.Logf("%s", Tail(w.lines))
	}
}

// levelOf reads the level from the line: the handler writes time and level first.
func levelOf(text string) string {
	_, rest, _ := strings.Cut(text, " level=")
	level, _, _ := strings.Cut(rest, " ")
	return level
}

func (w *testLog) fails(level, text string) bool {
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
