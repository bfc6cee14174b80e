package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestLogTail(t *testing.T) {
	var passed bytes.Buffer
	tail := &logTail{to: &passed}
	if got := string(tail.Last()); got != "" {
		t.Errorf("nothing was logged: %q", got)
	}
	for i := range keptLines + 5 {
		fmt.Fprintf(tail, "line %d\n", i)
	}
	fmt.Fprintln(tail, strings.Repeat("x", 2*keptLineSize))
	lines := strings.Split(strings.TrimSuffix(string(tail.Last()), "\n"), "\n")
	if len(lines) != keptLines || lines[0] != "line 6" || lines[keptLines-2] != fmt.Sprint("line ", keptLines+4) {
		t.Errorf("%d lines, %q to %q", len(lines), lines[0], lines[len(lines)-2])
	}
	if last := lines[keptLines-1]; last != strings.Repeat("x", keptLineSize)+"…" {
		t.Errorf("%d bytes of the long line", len(last))
	}
	if n := strings.Count(passed.String(), "\n"); n != keptLines+6 {
		t.Errorf("%d lines were passed on", n)
	}
}
