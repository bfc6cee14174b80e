package door

import (
	"cmp"
	"time"
)

// What tests see of it.

// Counts is how many connections a door has.
type Counts struct {
	Strangers int // have not logged in
	Fading    int // closed by the door, and the server doesn't know yet
	Known     int // all that are there
	In        int // logged in
}

// Counts looks at all connections.
func (d *Door) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Counts{d.strangers.Len(), d.fading, len(d.known), d.room.users.Used() + d.room.operators.Used()}
}

// Connections is how many a user has.
func (d *Door) Connections(user string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.room.users.Of(user)
}

// BegunBy is how many bytes of unfinished messages a user has.
func (d *Door) BegunBy(user string) int {
	d.begun.mu.Lock()
	defer d.begun.mu.Unlock()
	if b := d.begun.of[user]; b != nil {
		return b.bytes
	}
	return 0
}

// BegunOn is how large the message is that a connection is in the middle of, by the address that it comes from.
func (d *Door) BegunOn(from string) int {
	d.begun.mu.Lock()
	defer d.begun.mu.Unlock()
	for _, b := range d.begun.of {
		for a := range b.conns {
			if a.from.String() == from {
				return a.begun.size
			}
		}
	}
	return 0
}

// UnderWay is what a brake waits for.
type underWay struct {
	Bytes, Questions int
	Marks            int
	Sent             uint64 // marks, since it began
	Waiting          int    // senders
}

// UnderWay looks at everybody's.
func (b *Brake) UnderWay() underWay {
	b.mu.Lock()
	defer b.mu.Unlock()
	return underWay{b.under.Used(), b.api.Used(), len(b.marks), b.sent, len(b.lines)}
}

// AskedBy is how many questions of a user's count that nobody may answer.
func (b *Brake) AskedBy(user string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked.Of(user)
}

// Tune changes how long a mark is waited for, after which time a question counts no more, and how many may count. What is
// zero stays as it is.
func (b *Brake) Tune(patience, forget time.Duration, asked int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.patience, b.forget, b.asked.Limit = cmp.Or(patience, b.patience), cmp.Or(forget, b.forget), cmp.Or(asked, b.asked.Limit)
}
