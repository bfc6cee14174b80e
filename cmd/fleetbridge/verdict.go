package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"fleetbridge/bridge/sightings"
	"fleetbridge/internal/explain"
)

// printVerdict shows the evidence in the order of time, and then the sentence.
func printVerdict(s streams, v *explain.Verdict, blind error) error {
	type line struct {
		at   time.Time
		text string
	}
	var lines []line
	for _, f := range v.Search.Found {
		lines = append(lines, line{f.At, fmt.Sprintf("%-12s %-24s %s", printable(string(f.Address.Thing)), shortened(printable(explain.Named(f.Address))), printable(explain.FoundAs(f)))})
		if f.Stream != "" {
			lines[len(lines)-1].text += fmt.Sprintf(", %s %d", f.Stream, f.Sequence)
		}
		if len(f.Payload) > 0 {
			lines[len(lines)-1].text += "  " + inLine(string(f.Payload))
		}
	}
	for _, r := range v.Seen {
		_, text, _ := strings.Cut(tailLine(sightings.Line{Record: r}), " ")
		lines = append(lines, line{r.At, strings.TrimLeft(text, "▲▼● ")})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	for _, l := range lines {
		if _, err := fmt.Fprintf(s.out, "%s  %s\n", l.at.Local().Format("2006-01-02 15:04:05.000"), l.text); err != nil {
			return err
		}
	}
	for _, stream := range v.Search.Left {
		fmt.Fprintf(s.err, "fleetbridge: trace: of %s only the newest messages were looked at\n", stream)
	}
	if v.Search.Blind {
		fmt.Fprintln(s.err, "fleetbridge: trace: what waits for the cloud is in no stream here, and was not looked at")
	}
	if blind != nil {
		fmt.Fprintf(s.err, "fleetbridge: trace: what passed live is not known: %s\n", printable(blind.Error()))
	}
	text, found := v.Sentence()
	if _, err := fmt.Fprintln(s.out, printable(text)); err != nil {
		return err
	}
	if !found {
		return errReported
	}
	return nil
}

// inLine is a payload in a line.
func inLine(payload string) string {
	return shortened(printable(strings.Join(strings.Fields(payload), " ")))
}
