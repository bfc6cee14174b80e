package main

import (
	"bytes"
	"io"
	"sync"
)

// logTail passes a log on, and keeps its last lines for who asks the bridge for them. A handler of slog writes a line at a
// time.
type logTail struct {
	to io.Writer

	mu    sync.Mutex
	lines [][]byte // a ring
	next  int
}

const (
	keptLines    = 1000
	keptLineSize = 1 << 10 // of a line that is longer the begin is kept
)

// Write implements io.Writer.
func (t *logTail) Write(line []byte) (int, error) {
	t.mu.Lock()
	if len(t.lines) < keptLines {
		t.lines = append(t.lines, nil)
	}
	if line := bytes.TrimSuffix(line, []byte("\n")); len(line) > keptLineSize {
		t.lines[t.next] = append(append(t.lines[t.next][:0], line[:keptLineSize]...), "…"...)
	} else {
		t.lines[t.next] = append(t.lines[t.next][:0], line...)
	}
	t.next = (t.next + 1) % keptLines
	t.mu.Unlock()
	return t.to.Write(line)
}

// Last are the lines that are kept, the oldest first.
func (t *logTail) Last() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out bytes.Buffer
	for i := range t.lines {
		at := i
		if len(t.lines) == keptLines {
			at = (t.next + i) % keptLines
		}
		out.Write(t.lines[at])
		out.WriteByte('\n')
	}
	return out.Bytes()
}
