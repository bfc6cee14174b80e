package sightings

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"fleetbridge/mapping"
)

// Gap counts by channel what a reader's filter picks and the reader was not shown. A Thing's connection, and what has no
// address, is under "connection".
type Gap map[mapping.Channel]uint64

const connection mapping.Channel = "connection"

// Miss counts one. The result is g, made if it was nil.
func (g Gap) Miss(c mapping.Channel) Gap { return g.miss(c, 1) }

func (g Gap) miss(c mapping.Channel, n uint64) Gap {
	if g == nil {
		g = Gap{}
	}
	g[cmp.Or(c, connection)] += n
	return g
}

// misses counts while messages pass: those of one channel often follow each other, and then cost no look into a map.
type misses struct {
	gap Gap
	of  mapping.Channel // of the last n
	n   uint64
}

func (m *misses) one(c mapping.Channel) {
	if c != m.of {
		m.flush()
	}
	m.of = c
	m.n++
}

func (m *misses) flush() {
	if m.n > 0 {
		m.gap, m.n = m.gap.miss(m.of, m.n), 0
	}
}

// take returns what was counted since the last take.
func (m *misses) take() Gap {
	m.flush()
	out := m.gap
	m.gap = nil
	return out
}

// Add adds what another reading missed. The result is g, made if it was nil.
func (g Gap) Add(more Gap) Gap {
	for c, n := range more {
		g = g.miss(c, n)
	}
	return g
}

// Sum is how many there are in all.
func (g Gap) Sum() (n uint64) {
	for _, of := range g {
		n += of
	}
	return n
}

// String lists the channels, the most first, as "event 1200, shadow.report 3".
func (g Gap) String() string {
	channels := make([]mapping.Channel, 0, len(g))
	for c := range g {
		channels = append(channels, c)
	}
	slices.SortFunc(channels, func(a, b mapping.Channel) int { return cmp.Or(cmp.Compare(g[b], g[a]), cmp.Compare(a, b)) })
	words := make([]string, len(channels))
	for i, c := range channels {
		words[i] = fmt.Sprintf("%s %d", c, g[c])
	}
	return strings.Join(words, ", ")
}
