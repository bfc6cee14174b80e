package gateway

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// paper is what a log writes on, also from a timer.
type paper struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *paper) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

// take returns what was written since the last call.
func (p *paper) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.text.Reset()
	return p.text.String()
}

// TestLogIsBounded: of one message so many lines are written a minute, then how many were left out.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		write func(log *slog.Logger, i int)
		want  int // lines in the first minute
		after int // lines that say what was left out
	}{
		"one message":                   {func(log *slog.Logger, i int) { log.Warn("NATS error", "error", i) }, logLines, 1},
		"errors":                        {func(log *slog.Logger, i int) { log.Error("failed", "error", i) }, logLines, 1},
		"at level info":                 {func(log *slog.Logger, i int) { log.Info("connected") }, logLines, 1},
		"a Thing's own":                 {func(log *slog.Logger, i int) { log.With("thing", "a").Warn("odd") }, logLines, 1},
		"of many Things, once for each": {func(log *slog.Logger, i int) { log.With("thing", i).Info("connected") }, logAll, 1},
		"a message with a text in it":   {func(log *slog.Logger, i int) { log.Error(fmt.Sprintf("nats: bad %d", i)) }, logKinds + logLines, 1},
		"below the level":               {func(log *slog.Logger, i int) { log.Debug("detail") }, 0, 0},
		"as many as are allowed": {func(log *slog.Logger, i int) {
			if i < logLines {
				log.Warn("few")
			}
		}, logLines, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out paper
				log := boundLog(slog.New(slog.NewTextHandler(&out, nil)))
				for i := range 20000 {
					c.write(log, i)
				}
				if n := strings.Count(out.take(), "\n"); n != c.want {
					t.Errorf("%d lines, want %d", n, c.want)
				}
				time.Sleep(logPeriod + time.Second)
				synctest.Wait()
				text := out.take()
				if n := strings.Count(text, "was left out"); n != c.after || n > 0 && !strings.Contains(text, fmt.Sprintf("lines=%d", 20000-c.want)) {
					t.Errorf("after the minute: %s", text)
				}
				c.write(log, 0)
				if text := out.take(); c.want > 0 && strings.Count(text, "\n") != 1 {
					t.Errorf("in the next minute: %q", text)
				}
			})
		})
	}
}

// TestLogAtDebug: who reads at level debug has it all.
func TestLogAtDebug(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := boundLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	for range 3 * logLines {
		log.Warn("NATS error")
	}
	if w, d := strings.Count(out.String(), "level=WARN"), strings.Count(out.String(), "level=DEBUG"); w != logLines || d != 2*logLines {
		t.Errorf("%d warnings, %d at debug", w, d)
	}
}

// TestLogOfManyThings: however much is logged of Things, what is logged of something else, or at another level, is written.
func TestLogOfManyThings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out paper
		log := boundLog(slog.New(slog.NewTextHandler(&out, nil)))
		for i := range 2000 {
			thing := log.With("thing", i)
			thing.Info("connecting")
			thing.Info("connected")
		}
		_ = out.take()
		log.Error("the configuration is refused")
		log.Error("connected")
		log.With("thing", 1).Warn("disconnected")
		if n := strings.Count(out.take(), "\n"); n != 3 {
			t.Errorf("%d lines of 3", n)
		}
	})
}
