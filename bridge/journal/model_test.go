package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"fleetbridge/bridge/journal"
)

// model is what a journal should hold. Within a life it knows exactly; after a crash it allows what was promised to
// nobody, learns from what is there, and goes on.
type model struct {
	lanes   map[string][]item // not settled, by number
	states  map[string]item
	floors  map[string]uint64 // settled, as far as the journal was told
	sure    map[string]uint64 // as far as a synced write has carried it
	groups  []*group          // of this life, as they were handed over
	ids     map[string]seenID // of what counts
	next    int
	counted int
	wrong   string // what was answered
	heavy   bool   // bodies are large, and fill segment after segment
	known   uint64 // highest number that was answered
	// unsureStates: lazy groups are gone, and the values that they replaced are not known.
	unsureStates bool
}

// viewLane is the name under which the model keeps the view records.
const viewLane = "=views"

// item is a body. It says itself whose it is.
type item struct {
	number uint64
	body   string
	lost   bool // damaged, as the journal has said
}

type seenID struct {
	number uint64
	at     time.Time
	old    bool // of an earlier life: the file may be gone
}

type status int

const (
	waiting  status = iota
	accepted        // and synced, if it is not lazy
	refused         // never written
	failed          // may be there after a crash
	unknown         // a crash came first
)

type group struct {
	group   journal.Group
	id      int
	records []rec
	status  status
	first   uint64
	before  map[string]uint64 // floors when it was handed over
	voided  bool              // something later was synced, after it had failed
}

type rec struct {
	kind, key, body string
	number          uint64 // of a settlement
}

func newModel() *model {
	return &model{lanes: map[string][]item{}, states: map[string]item{}, floors: map[string]uint64{}, sure: map[string]uint64{}, ids: map[string]seenID{}}
}

func (g *group) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "group %d", g.id)
	for _, r := range g.records {
		fmt.Fprintf(&b, ", %s %s", r.kind, r.key)
		if r.number > 0 {
			fmt.Fprintf(&b, " to %d", r.number)
		}
	}
	if g.group.ID != "" {
		b.WriteString(", id " + g.group.ID)
	}
	if g.group.Lazy {
		b.WriteString(", lazy")
	}
	if g.group.Urgent {
		b.WriteString(", urgent")
	}
	return b.String()
}

// compose makes a group. Its first record is a message or a view record, by which one sees whether it is there.
func (m *model) compose(random *rand.Rand, lazy bool) *group {
	m.next++
	g := &group{id: m.next, before: maps.Clone(m.floors)}
	g.group.Lazy, g.group.Urgent = lazy && random.IntN(2) == 0, random.IntN(6) == 0
	if random.IntN(4) == 0 {
		g.group.ID = fmt.Sprintf("id-%d", random.IntN(m.next))
	}
	for i := range 1 + random.IntN(4) {
		size := random.IntN(300)
		if random.IntN(5) == 0 || m.heavy && random.IntN(2) == 0 {
			size = random.IntN(7000)
		}
		r := rec{key: string(rune('a' + random.IntN(4))), body: body(g.id, i, size)}
		switch kind := random.IntN(10); {
		case kind < 5 || i == 0 && kind < 8:
			r.kind = "message"
			g.group.Message(r.key, []byte(r.body))
		case kind < 6 || i == 0:
			r.kind, r.key = "view", ""
			g.group.View([]byte(r.body))
		case kind < 8:
			r.kind = "put"
			g.group.Put(r.key, []byte(r.body))
		case kind < 9:
			r.kind = "delete"
			g.group.Delete(r.key)
		default:
			r.kind = "settle"
			r.key, r.number = m.settlement(random)
			g.group.Settle(r.key, r.number)
		}
		g.records = append(g.records, r)
	}
	m.groups = append(m.groups, g)
	return g
}

func body(group, i, size int) string {
	return fmt.Sprintf("%d.%d.%s", group, i, bytes.Repeat([]byte{byte('a' + (group+i)%26)}, size))
}

// settlement chooses a lane and a number that was answered.
func (m *model) settlement(random *rand.Rand) (lane string, number uint64) {
	lane = string(rune('a' + random.IntN(4)))
	if m.known == 0 {
		return lane, 0
	}
	return lane, m.known - min(uint64(random.IntN(30)), m.known)
}

func (m *model) waiting() int {
	n := 0
	for _, g := range m.groups {
		if g.status == waiting {
			n++
		}
	}
	return n
}

func (m *model) answered(g *group, r journal.Receipt, err error) {
	first, known := m.ids[g.group.ID]
	switch {
	case err != nil && errors.Is(err, journal.ErrFull) && !errors.Is(err, syscall.ENOSPC):
		g.status = refused
	case err != nil:
		g.status = failed
	case r.Duplicate:
		if g.group.ID == "" || !known || r.First != first.number {
			m.wrong = fmt.Sprintf("group %d is a duplicate of %d, and the model knows %d", g.id, r.First, first.number)
		}
		g.status = refused
	case known && g.group.ID != "" && !first.old && time.Since(first.at) < 2*time.Minute:
		m.wrong = fmt.Sprintf("group %d is no duplicate, and the model knows its id: %d", g.id, first.number)
	default:
		m.accept(g, r.First)
	}
}

func (m *model) accept(g *group, first uint64) {
	g.status, g.first = accepted, first
	m.known = max(m.known, first+uint64(len(g.records))-1)
	if g.group.ID != "" {
		m.ids[g.group.ID] = seenID{number: first, at: time.Now()}
	}
	m.apply(g, first)
	if g.group.Lazy {
		return
	}
	for lane, floor := range g.before {
		m.sure[lane] = max(m.sure[lane], floor)
	}
	for _, earlier := range m.groups {
		switch {
		case earlier == g:
		case earlier.status == failed:
			earlier.voided = true
		case earlier.status == accepted && earlier.first < first: // what was lazy is on the disk now
			earlier.group.Lazy = false
		}
		if earlier.status == accepted && earlier.first <= first {
			for _, r := range earlier.records {
				if r.kind == "settle" {
					m.sure[r.key] = max(m.sure[r.key], r.number)
				}
			}
		}
	}
}

// apply changes the model as the group says.
func (m *model) apply(g *group, first uint64) {
	for i, r := range g.records {
		it := item{number: first + uint64(i), body: r.body}
		switch r.kind {
		case "message":
			m.lanes[r.key] = append(m.lanes[r.key], it)
		case "view":
			m.lanes[viewLane] = append(m.lanes[viewLane], it)
		case "put":
			m.states[r.key] = it
		case "delete":
			delete(m.states, r.key)
		case "settle":
			m.settle(r.key, r.number)
		}
	}
}

func (m *model) settle(lane string, number uint64) {
	number = min(number, max(m.known, m.floors[lane]))
	m.floors[lane] = max(m.floors[lane], number)
	m.lanes[lane] = slices.DeleteFunc(m.lanes[lane], func(i item) bool { return i.number <= number })
}

// judgeRunning: the journal holds exactly what the model says.
func (m *model) judgeRunning(j *journal.Journal) {
	for _, lane := range m.laneNames() {
		got := readLane(j, lane)
		want := m.lanes[lane]
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || !got[i].same(want[i]) {
				fail("lane %s: message %d of %d, %d wanted: %s", lane, i, len(got), len(want), differ(got, want, i))
			}
		}
	}
	if got, want := j.Keys(""), slices.Sorted(maps.Keys(m.states)); !slices.Equal(got, want) {
		fail("states %v, want %v", got, want)
	}
	for key, want := range m.states {
		if got := getState(j, key); got.lost != want.lost || !got.lost && got.body != want.body {
			fail("state %s: %v, want %v", key, got, want)
		}
	}
}

func (m *model) laneNames() []string { return []string{"a", "b", "c", "d", viewLane} }

func readLane(j *journal.Journal, lane string) (items []item) {
	messages := j.Views(0, 1<<40)
	if lane != viewLane {
		messages = j.Read(lane, 0, 1<<40)
	}
	for _, m := range messages {
		items = append(items, item{m.Number, string(m.Body), m.Err != nil})
	}
	return items
}

func getState(j *journal.Journal, key string) item {
	value, err := j.Get(key)
	return item{body: string(value), lost: err != nil}
}

func (i item) same(other item) bool {
	return i.number == other.number && i.lost == other.lost && (i.lost || i.body == other.body)
}

func (i item) String() string {
	return fmt.Sprintf("%d %.12q… (%d bytes, lost: %v)", i.number, i.body, len(i.body), i.lost)
}

func differ(got, want []item, at int) string {
	show := func(items []item) string {
		if at < len(items) {
			return items[at].String()
		}
		return "nothing"
	}
	return show(got) + ", want " + show(want)
}
