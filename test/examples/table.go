//go:build unix

package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// The checklist, in the order of its columns.
const (
	checkReport  = "report"
	checkEvent   = "event"
	checkDelta   = "delta"
	checkCommand = "command"
	checkRefusal = "bad command"
	checkJob     = "job"
	checkRestart = "bridge killed"
	checkClean   = "no dead letter"
	checkStop    = "stop"
)

var checklist = []string{checkReport, checkEvent, checkDelta, checkCommand, checkRefusal, checkJob, checkRestart, checkClean, checkStop}

const failed = "FAILED"

// table is what came of every check.
type table struct {
	mu   sync.Mutex
	rows []*row
}

// row is one program in one world.
type row struct {
	language, world string
	mu              sync.Mutex
	cells           map[string]string
	failures        []string
	out             *output
}

// setup begins the lines of a language. An error is its only line.
func (t *table) setup(language string, took time.Duration, err error) {
	r := t.row(language, "set up")
	if err != nil {
		r.failures = append(r.failures, "set up: "+err.Error())
	}
	r.cells["took"] = seconds(took)
}

// row adds one.
func (t *table) row(language, world string) *row {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &row{language: language, world: world, cells: map[string]string{}, out: &output{}}
	t.rows = append(t.rows, r)
	return r
}

// check runs one and writes down how it went, and how long it took.
func (r *row) check(name string, f func() error) bool {
	began := time.Now()
	err := f()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.cells[name] = failed
		r.failures = append(r.failures, name+": "+err.Error())
		return false
	}
	r.cells[name] = seconds(time.Since(began))
	return true
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// print writes the table, a row per program, and under it what has failed. It reports whether nothing has.
func (t *table) print(w io.Writer, logs bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	ok := true
	lines := [][]string{append([]string{"language", "bridge"}, checklist...)}
	var notes strings.Builder
	for _, r := range t.rows {
		if r.world == "set up" {
			fmt.Fprintf(w, "%-10s set up in %s\n", r.language, r.cells["took"])
		} else {
			line := []string{r.language, r.world}
			for _, name := range checklist {
				cell := r.cells[name]
				if cell == "" {
					cell = "not reached"
					r.failures = append(r.failures, name+": not reached")
				}
				line = append(line, cell)
			}
			lines = append(lines, line)
		}
		ok = ok && len(r.failures) == 0
		for _, text := range r.failures {
			fmt.Fprintf(&notes, "FAILED %s, %s: %s\n", r.language, r.world, text)
		}
		if len(r.failures) > 0 || logs {
			fmt.Fprint(&notes, indent(tail(r.out.String(), 40)))
		}
	}
	if len(lines) > 1 {
		fmt.Fprintln(w)
		printColumns(w, lines)
	}
	fmt.Fprint(w, notes.String())
	return ok
}

func printColumns(w io.Writer, lines [][]string) {
	width := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			width[i] = max(width[i], len(cell))
		}
	}
	for _, line := range lines {
		var out strings.Builder
		for i, cell := range line {
			fmt.Fprintf(&out, "%-*s  ", width[i], cell)
		}
		fmt.Fprintln(w, strings.TrimRight(out.String(), " "))
	}
}

// tail is the last n lines of a text.
func tail(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

func indent(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString("  " + strings.TrimRight(line, "\n") + "\n")
	}
	return out.String()
}
