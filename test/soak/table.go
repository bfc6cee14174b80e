package soak

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"fleetbridge/fleetsim"
)

// Row is what a scenario came to, over its rounds.
type Row struct {
	Scenario
	Rounds   int
	Injected int // faults
	Total    fleetsim.Tally
	Recovery []time.Duration
	Failed   bool
}

// add counts a round.
func (r *Row) add(w *World) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.Ledger.Report().Total
	r.Rounds++
	r.Injected += w.faults
	r.Total.In += t.In
	r.Total.Dead += t.Dead
	r.Total.Queued += t.Queued
	r.Total.Lost += t.Lost
	r.Total.Duplicated += t.Duplicated
	r.Total.OutOfOrder += t.OutOfOrder
	r.Total.Strange += t.Strange
	r.Recovery = append(r.Recovery, w.recovery...)
	r.Failed = r.Failed || w.T.Failed()
}

var columns = []string{"scenario", "rounds", "faults", "messages in", "dead letters", "lost", "duplicated", "out of order", "recovery median", "recovery max"}

// cells spells the row out.
func (r *Row) cells() []string {
	name := r.Name
	if r.Failed {
		name += " FAILED"
	}
	median, longest := "", ""
	if n := len(r.Recovery); n > 0 {
		sorted := slices.Sorted(slices.Values(r.Recovery))
		median, longest = spell(sorted[n/2]), spell(sorted[n-1])
	}
	out := []string{name}
	for _, n := range []int{r.Rounds, r.Injected, r.Total.In, r.Total.Dead, r.Total.Lost + r.Total.Strange, r.Total.Duplicated, r.Total.OutOfOrder} {
		out = append(out, fmt.Sprint(n))
	}
	return append(out, median, longest)
}

func spell(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// sum is the last line.
func sum(rows []*Row) *Row {
	all := &Row{Scenario: Scenario{Name: "all"}}
	for _, r := range rows {
		all.Rounds += r.Rounds
		all.Injected += r.Injected
		all.Total.In += r.Total.In
		all.Total.Dead += r.Total.Dead
		all.Total.Lost += r.Total.Lost
		all.Total.Strange += r.Total.Strange
		all.Total.Duplicated += r.Total.Duplicated
		all.Total.OutOfOrder += r.Total.OutOfOrder
		all.Recovery = append(all.Recovery, r.Recovery...)
	}
	return all
}

// Text is the table for a terminal.
func Text(rows []*Row) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(columns, "\t"))
	for _, r := range append(slices.Clone(rows), sum(rows)) {
		fmt.Fprintln(w, strings.Join(r.cells(), "\t"))
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}

// Markdown is the table for a page, with what each scenario does.
func Markdown(rows []*Row) string {
	var b strings.Builder
	line := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(append([]string{columns[0], "what is done"}, columns[1:]...)...)
	line(append([]string{"---", "---"}, slices.Repeat([]string{"---:"}, len(columns)-1)...)...)
	for _, r := range append(slices.Clone(rows), sum(rows)) {
		cells := r.cells()
		line(append([]string{cells[0], r.Faults}, cells[1:]...)...)
	}
	return b.String()
}

const (
	tableBegin = "<!-- soak:begin -->"
	tableEnd   = "<!-- soak:end -->"
)

// WriteTable puts the heading and the table between the file's markers, or makes a file of them.
func WriteTable(path, heading string, rows []*Row) error {
	block := tableBegin + "\n" + heading + "\n\n" + Markdown(rows) + tableEnd
	old, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	text, err := replaceBlock(string(old), block)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func replaceBlock(text, block string) (string, error) {
	before, rest, found := strings.Cut(text, tableBegin)
	if !found {
		if text != "" {
			return "", fmt.Errorf("has no line %s", tableBegin)
		}
		return block + "\n", nil
	}
	_, after, found := strings.Cut(rest, tableEnd)
	if !found {
		return "", fmt.Errorf("has no line %s after %s", tableEnd, tableBegin)
	}
	return before + block + after, nil
}
