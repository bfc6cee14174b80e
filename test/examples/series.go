//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// targets are all that the checklist sets; a thermostat begins with the first.
var targets = []float64{20, 30, 21, 27, 10, 12}

// temperatures are all that have been reported, in the order of their arrival at the simulator.
func (p *program) temperatures() []float64 {
	var all []float64
	for line := range strings.Lines(p.heard.String()) {
		topic, payload, ok := received(line)
		if !ok || topic != "$emqx/things/"+p.thing+"/shadow/update" {
			continue
		}
		var report struct{ State struct{ Reported state } }
		if json.Unmarshal([]byte(payload), &report) == nil && report.State.Reported.Temperature != nil {
			all = append(all, *report.State.Reported.Temperature)
		}
	}
	return all
}

// received takes the simulator's log line about a message apart.
func received(line string) (topic, payload string, ok bool) {
	_, rest, ok := strings.Cut(line, " msg=received topic=")
	if !ok {
		return "", "", false
	}
	topic, rest, ok = strings.Cut(rest, " payload=")
	if !ok {
		return "", "", false
	}
	if unquoted, err := strconv.Unquote(topic); err == nil {
		topic = unquoted
	}
	payload, err := strconv.Unquote(strings.TrimSpace(rest))
	return topic, payload, err == nil
}

// gapless is an error when a report is missing: from one temperature to the next it is one step towards
// one of the targets. What is no step, but came before, is a redelivery.
func gapless(temperatures []float64) error {
	seen := []float64{18}
	for _, now := range temperatures {
		before := seen[len(seen)-1]
		if now == before {
			continue
		}
		step := func(target float64) bool { return math.Abs(before+(target-before)*0.2-now) < 0.006 }
		if slices.ContainsFunc(targets, step) {
			seen = append(seen, now)
		} else if !slices.Contains(seen, now) {
			return fmt.Errorf("a report is missing between the temperatures %v and %v", before, now)
		}
	}
	if len(seen) < 20 {
		return fmt.Errorf("only %d temperatures were reported", len(seen))
	}
	return nil
}
