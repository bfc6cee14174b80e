package journal_test

import (
	"slices"

	"fleetbridge/bridge/journal"
)

// crash ends a life: who waits never learns.
func (m *model) crash() {
	for _, g := range m.groups {
		if g.status == waiting {
			g.status = unknown
		}
	}
}

// closed says that everything that was accepted or settled is on the disk.
func (m *model) closed() {
	for _, g := range m.groups {
		g.group.Lazy = false
	}
	for lane, floor := range m.floors {
		m.sure[lane] = floor
	}
}

// opened is what a journal says after it was opened.
type opened struct {
	lanes  map[string][]item
	states map[string]item
	damage []journal.Damage
}

// judgeOpened holds what is there after a crash against what may be there, and learns from it.
func (m *model) judgeOpened(j *journal.Journal, flipped bool) {
	o := opened{lanes: map[string][]item{}, states: map[string]item{}, damage: j.Damage()}
	for _, lane := range m.laneNames() {
		o.lanes[lane] = readLane(j, lane)
		for i, it := range o.lanes[lane] {
			if i > 0 && it.number <= o.lanes[lane][i-1].number {
				fail("lane %s: %d after %d", lane, it.number, o.lanes[lane][i-1].number)
			}
			if it.lost && !flipped {
				fail("lane %s: %d is damaged, and nobody did it", lane, it.number)
			}
			if o.gone(it.number) {
				fail("lane %s: %d is there, and said to be damaged", lane, it.number)
			}
		}
	}
	for _, key := range j.Keys("") {
		o.states[key] = getState(j, key)
	}
	m.judgeGroups(o)
	m.judgeLanes(o)
	m.judgeStates(o)
	m.learn(o)
}

// gone reports whether a record was said to be damaged.
func (o opened) gone(number uint64) bool {
	return slices.ContainsFunc(o.damage, func(d journal.Damage) bool { return d.First <= number && number <= d.Last })
}

// find returns a record that is there by what is in it.
func (o opened) find(lane, body string) (item, bool) {
	for _, it := range o.lanes[lane] {
		if it.body == body {
			return it, true
		}
	}
	return item{}, false
}

// judgeGroups: what was accepted is there, what was not is there as a whole or not at all, and never what a later
// write has made void.
func (m *model) judgeGroups(o opened) {
	before := m.groups
	m.groups, m.counted = nil, 0
	m.lostLazy(o, before)
	for _, g := range before {
		marker, there := o.find(laneOf(g.records[0]), g.records[0].body)
		switch {
		case g.status == accepted:
			m.counted++
		case !there:
		case g.status == refused || g.voided:
			fail("%v is there, and was refused", g)
		default:
			m.accept(g, marker.number)
			m.counted++
		}
	}
}

func laneOf(r rec) string {
	if r.kind == "view" {
		return viewLane
	}
	return r.key
}

// lostLazy takes back lazy groups that are gone: nobody had promised them yet. Nothing lazy is missing from the middle.
func (m *model) lostLazy(o opened, groups []*group) {
	for i, g := range groups {
		if g.status != accepted || !g.group.Lazy {
			continue
		}
		seen, settled := m.seen(o, g)
		if m.unsureStates = m.unsureStates || settled; seen || settled {
			continue
		}
		for _, later := range groups[i+1:] {
			if seen, _ := m.seen(o, later); later.status == accepted && seen && !o.gone(g.first) {
				fail("%v is gone, and %v is there", g, later)
			}
		}
		m.forget(g)
	}
}

// seen reports whether something of the group is there, or all of it was settled: then nobody sees, and nobody knows which
// values it has left behind.
func (m *model) seen(o opened, g *group) (seen, settled bool) {
	settled = true
	for i, r := range g.records {
		if r.kind != "message" && r.kind != "view" {
			continue
		}
		_, there := o.find(laneOf(r), r.body)
		seen = seen || there
		settled = settled && g.first+uint64(i) <= m.floors[laneOf(r)]
	}
	return seen, settled && !seen
}

// forget takes a group back.
func (m *model) forget(g *group) {
	g.status = unknown
	if m.ids[g.group.ID].number == g.first {
		delete(m.ids, g.group.ID)
	}
	for i, r := range g.records {
		number := g.first + uint64(i)
		m.lanes[laneOf(r)] = slices.DeleteFunc(m.lanes[laneOf(r)], func(it item) bool { return it.number == number })
	}
	m.unsureStates = true
}

// judgeLanes: everything above the floor is there, nothing at or below what surely is settled, no wrong byte.
func (m *model) judgeLanes(o opened) {
	for _, lane := range m.laneNames() {
		there := map[uint64]item{}
		for _, it := range o.lanes[lane] {
			there[it.number] = it
			if it.number <= m.sure[lane] && len(o.damage) == 0 {
				fail("lane %s: %v was settled to %d, and written", lane, it, m.sure[lane])
			}
		}
		for _, want := range m.lanes[lane] {
			got, ok := there[want.number]
			delete(there, want.number)
			switch {
			case !ok && !o.gone(want.number):
				fail("lane %s: %v is missing", lane, want)
			case ok && !got.lost && got.body != want.body:
				fail("lane %s: %v, want %v", lane, got, want)
			}
		}
		for number, it := range there { // settled, and the floor was not on the disk
			if number > m.floors[lane] {
				fail("lane %s: %v was never accepted", lane, it)
			}
		}
	}
}

// judgeStates: the newest value counts.
func (m *model) judgeStates(o opened) {
	if m.unsureStates {
		return
	}
	for key, want := range m.states {
		got, ok := o.states[key]
		if (!ok || !got.lost && got.body != want.body) && !o.gone(want.number) {
			fail("state %s: %v, want %v", key, got, want)
		}
	}
	for key, got := range o.states {
		if _, ok := m.states[key]; !ok && len(o.damage) == 0 {
			fail("state %s: %v, want none", key, got)
		}
	}
}

// learn makes what is there the model of the next life.
func (m *model) learn(o opened) {
	for key, got := range o.states {
		if got.body == m.states[key].body {
			o.states[key] = m.states[key]
		}
	}
	m.lanes, m.states, m.known = o.lanes, o.states, 0
	for _, items := range o.lanes {
		for _, it := range items {
			m.known = max(m.known, it.number)
		}
	}
	m.groups, m.unsureStates = nil, false
	for id, seen := range m.ids {
		seen.old = true
		m.ids[id] = seen
	}
	if len(o.damage) > 0 { // a floor may be among what is gone
		clear(m.sure)
	}
	for lane := range m.floors {
		m.floors[lane] = m.sure[lane]
	}
}
