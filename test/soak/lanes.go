package soak

import (
	"bytes"
	"strconv"
	"strings"

	"fleetbridge/mapping"
)

// The lanes of a Thing.

func telemetryLane(thing string) string { return "up/" + thing + "/telemetry" }
func controlLane(thing string) string   { return "up/" + thing + "/control" }
func downLane(thing string) string      { return "down/" + thing }

// deltaLane counts deltas, whose redeliveries the bridge knows by their version: none comes twice.
func deltaLane(thing string) string { return "delta/" + thing }

// commandLane counts commands: handed in as a request, arrived as the response to it.
func commandLane(thing string) string { return "command/" + thing }

// Execution ids begin with this: responses that the program makes up, and those to real commands.
const (
	looseResponse = "r"
	realCommand   = "c"
)

// number finds the lane and number of a message. A payload that the scenario made carries its number
// as "n", so that a dead letter that is no JSON can be counted, too. ok is false for others' messages.
func number(a mapping.Address, payload []byte) (lane string, n uint64, ok bool) {
	thing := string(a.Thing)
	switch a.Channel {
	case mapping.CommandResponse:
		lane = controlLane(thing)
		if strings.HasPrefix(a.ID, realCommand) {
			lane = commandLane(thing)
		}
		n, err := strconv.ParseUint(a.ID[1:], 10, 64)
		return lane, n, err == nil
	case mapping.Event, mapping.ShadowReport:
		lane = telemetryLane(thing)
	case mapping.JobsNotify, mapping.CommandRequest:
		lane = downLane(thing)
	case mapping.ShadowDelta:
		lane = deltaLane(thing)
	default:
		return "", 0, false
	}
	_, rest, found := bytes.Cut(payload, []byte(`"n":`))
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(string(rest[:end]), 10, 64)
	return lane, n, found && err == nil
}
