//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
)

// coldStart is the temperature with which a thermostat begins.
const coldStart = 18

// targets are all that thermostat.json sets; a thermostat begins with the first.
var targets = []float64{20, 30, 21, 27, 10, 12}

// gapless is an error when a report is missing in what a thermostat sent, as fleetsim conform recorded it.
func gapless(record string) error {
	file, err := os.Open(record)
	if err != nil {
		return err
	}
	defer file.Close()
	var all []float64
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var m struct{ Payload string }
		var report struct {
			State struct {
				Reported struct{ Temperature *float64 }
			}
		}
		if json.Unmarshal(lines.Bytes(), &m) == nil && json.Unmarshal([]byte(m.Payload), &report) == nil && report.State.Reported.Temperature != nil {
			all = append(all, *report.State.Reported.Temperature)
		}
	}
	return steps(all)
}

// steps is an error when a temperature is missing: from one to the next it is one step towards one of the targets, or a
// new start. What is no step, but came before, is a redelivery.
func steps(temperatures []float64) error {
	seen := []float64{coldStart}
	for _, now := range temperatures {
		before := seen[len(seen)-1]
		if now == before {
			continue
		}
		step := func(target float64) bool { return math.Abs(before+(target-before)*0.2-now) < 0.006 }
		if now == coldStart || slices.ContainsFunc(targets, step) {
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
