package soak

import (
	"strings"
	"sync"
)

// Logbook keeps the last lines of a bridge's log, and counts the warnings.
type Logbook struct {
	mu       sync.Mutex
	lines    []string
	warnings []string
}

// Write is called once a line, by slog's contract.
func (b *Logbook) Write(line []byte) (int, error) {
	const keep = 200
	b.mu.Lock()
	defer b.mu.Unlock()
	text := strings.TrimSpace(string(line))
	b.lines = append(b.lines, text)
	if len(b.lines) > 2*keep {
		b.lines = append([]string(nil), b.lines[keep:]...)
	}
	if strings.Contains(text, "level=WARN") || strings.Contains(text, "level=ERROR") {
		b.warnings = append(b.warnings, text)
	}
	return len(line), nil
}

// Tail is what was logged last.
func (b *Logbook) Tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines, "\n")
}

// Warnings are the lines at WARN and above that contain the text.
func (b *Logbook) Warnings(text string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, w := range b.warnings {
		if strings.Contains(w, text) {
			out = append(out, w)
		}
	}
	return out
}
