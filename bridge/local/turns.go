package local

import (
	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/local/wire"
)

// turns is what waits to be stored, in a lane for each who publishes. Lanes are served in turns, so whoever sends a
// lot waits for himself.
type turns struct {
	ring   []*turnLane          // those in which something waits, the next one first
	lanes  map[string]*turnLane // the same, by whose they are
	bytes  int
	count  int
	passed []*nats.Msg // marks that a lane does not hold back any more
}

// turnLane keeps the order in which its messages came.
type turnLane struct {
	of      string
	waiting []parked
	bytes   int
	marks   []*nats.Msg // of the brake, that pass when little waits
}

type parked struct {
	msg   *nats.Msg
	bytes int
	done  func(outcome) // of the bridge's own; nil: the publisher gets a PubAck
}

const (
	// Bounds of what waits in all lanes. A lane has no more than is free in the others: one gets half of it, two a
	// third each, and there is always some for who comes next.
	intakeMessages = 64 << 10
	intakeBytes    = 64 << 20
	// headerCost is about what a header takes in memory beside its texts.
	headerCost = 128
	// A turn is one message, or at most so many or bytes. When many wait it is less, so that a group has something of each,
	// if it can.
	turnMessages = 64
	turnBytes    = 64 << 10
	// Beyond these a lane's sender is held back by its brake. Both are more than goes into some groups.
	laneMessages = 4 << 10
	laneBytes    = 4 << 20
	// turnsMax messages, or so many bytes, are stored together: who comes next waits for the group under way. The sync
	// that they share is small beside what they take each.
	turnsMax   = 512
	turnsBytes = 1 << 20
)

// put reports whether there was room. Only the sender's own lane and what is free count.
func (t *turns) put(of string, m *nats.Msg, done func(outcome)) bool {
	l, n := t.lane(of), wire.Size(m)+headerCost*len(m.Header)
	if l.bytes+n > intakeBytes-t.bytes || len(l.waiting) >= intakeMessages-t.count {
		return false
	}
	t.join(l)
	l.waiting = append(l.waiting, parked{m, n, done})
	l.bytes += n
	t.bytes += n
	t.count++
	return true
}

// detain reports whether a mark of the brake's passes later: its sender has enough waiting.
func (t *turns) detain(of string, m *nats.Msg) bool {
	l := t.lanes[of]
	if l == nil || l.little() {
		return false
	}
	l.marks = append(l.marks, m)
	return true
}

func (l *turnLane) little() bool { return len(l.waiting) < laneMessages && l.bytes < laneBytes }

// lane is whoever's it is, or a new one, in which nothing waits.
func (t *turns) lane(of string) *turnLane {
	if l := t.lanes[of]; l != nil {
		return l
	}
	return &turnLane{of: of}
}

// join gives a lane its turns when something is to wait in it.
func (t *turns) join(l *turnLane) {
	if len(l.waiting) > 0 {
		return
	}
	if t.lanes == nil {
		t.lanes = map[string]*turnLane{}
	}
	t.lanes[l.of] = l
	t.ring = append(t.ring, l)
}

// take appends what is to be stored together next: from each lane a turn, until the group is full.
func (t *turns) take(group []parked) []parked {
	many := max(1, len(t.ring))
	messages, part := max(1, min(turnMessages, turnsMax/many)), min(turnBytes, turnsBytes/many)
	for bytes := 0; len(t.ring) > 0 && len(group) < turnsMax && bytes < turnsBytes; {
		l := t.ring[0]
		for given, end := 0, min(len(group)+messages, turnsMax); l.goesOn(given, part) && len(group) < end && bytes < turnsBytes; {
			m := t.pop(l)
			group = append(group, m)
			given += m.bytes
			bytes += m.bytes
		}
		if t.ring = t.ring[1:]; len(l.waiting) > 0 {
			t.ring = append(t.ring, l)
		}
	}
	return group
}

// goesOn reports whether the next message goes with those of so many bytes.
func (l *turnLane) goesOn(given, most int) bool {
	return len(l.waiting) > 0 && (given == 0 || given+l.waiting[0].bytes <= most)
}

func (t *turns) pop(l *turnLane) parked {
	m := l.waiting[0]
	l.waiting[0] = parked{}
	if l.waiting = l.waiting[1:]; len(l.waiting) == 0 {
		delete(t.lanes, l.of)
	}
	l.bytes -= m.bytes
	t.bytes -= m.bytes
	t.count--
	if l.little() {
		t.passed = append(t.passed, l.marks...)
		l.marks = nil
	}
	return m
}
