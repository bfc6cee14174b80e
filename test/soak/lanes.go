package soak

import (
	"bytes"
	"strconv"
	"strings"

	"fleetbridge/mapping"
)

// The lanes of a Thing. Order is kept in each of them.

// upLane counts what goes up of a kind. Of the commands' it counts the responses that a program makes up.
func upLane(thing string, k mapping.Kind) string { return "up/" + thing + "/" + k.String() }
func downLane(thing string) string               { return "down/" + thing }

// deltaLane counts deltas, whose redeliveries the bridge knows by their version: none comes twice.
func deltaLane(thing string) string { return "delta/" + thing }

// commandLane counts commands: handed in as a request, arrived as the response to it.
func commandLane(thing string) string { return "command/" + thing }

// Ids begin with this: of responses that the program makes up, of those to real commands, and of jobs.
const (
	looseResponse = "r"
	realCommand   = "c"
	job           = "j"
)

// number finds the lane and number of a message. A payload that the scenario made carries its number
// as "n", so that a dead letter that is no JSON can be counted, too. ok is false for others' messages.
func number(a mapping.Address, payload []byte) (lane string, n uint64, ok bool) {
	thing := string(a.Thing)
	switch a.Channel {
	case mapping.CommandResponse, mapping.JobUpdate:
		lane = upLane(thing, a.Route().Kind)
		if strings.HasPrefix(a.ID, realCommand) {
			lane = commandLane(thing)
		}
		n, err := strconv.ParseUint(a.ID[1:], 10, 64)
		return lane, n, err == nil
	case mapping.Event, mapping.ShadowReport:
		lane = upLane(thing, a.Route().Kind)
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
