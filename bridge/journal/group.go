package journal

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Group is a number of records that are appended as a whole or not at all. They get consecutive numbers in the order in
// which they are added. The journal holds the bodies until it calls done; nobody may write into them before that.
type Group struct {
	// ID, if it is not empty, makes the group a duplicate of an accepted one with the same id within two minutes. Nothing
	// of a duplicate is kept. The text before its first blank names the owner: when there are too many ids, the oldest ones of
	// the owner with the most are forgotten.
	ID string
	// Urgent lets the group use the reserve: for records that make room, and for those that must not wait for room.
	Urgent bool
	// Lazy: done is called when the group is written, and it survives a power cut only Options.Interval later, or earlier if a
	// group that is not lazy is written with it.
	Lazy bool
	// Patient: nobody is in a hurry. The group does not start a write, which others would have to wait for, but goes with the
	// next one, and is written after PatienceTime at the latest.
	Patient bool

	records []record
	cost    int64
	flush   bool // it carries the floors, if it has nothing else
}

// Message adds a message to a lane.
func (g *Group) Message(lane string, body []byte) {
	g.add(record{kind: Lane, key: lane, body: body})
}

// Remember notes an id for the record that was added last: a later group with this ID is a duplicate of it.
func (g *Group) Remember(id string) { g.add(record{kind: ident, key: id}) }

// View adds a view record.
func (g *Group) View(body []byte) { g.add(record{kind: View, body: body}) }

// Put sets a state.
func (g *Group) Put(key string, value []byte) { g.add(record{kind: State, key: key, body: value}) }

// Delete removes a state; it need not be there.
func (g *Group) Delete(key string) { g.add(record{kind: deleted, key: key}) }

// Settle settles a lane up to and with a number, at once with what else is in the group.
func (g *Group) Settle(lane string, number uint64) {
	g.add(record{kind: floor, key: lane, ref: number})
}

func (g *Group) add(r record) {
	if r.kind.hasBody() {
		r.sum = checksum(r.body)
	}
	g.records = append(g.records, r)
	g.cost += r.cost()
}

// size is an upper bound of the bytes that the group takes in a batch.
func (g *Group) size() int64 {
	if g.ID == "" {
		return g.cost
	}
	return g.cost + record{key: g.ID}.cost()
}

// Receipt says under which numbers a group was accepted.
type Receipt struct {
	// First is the number of the group's first record, or of the earlier group's if it is a Duplicate.
	First     uint64
	Duplicate bool
}

// ticket is a group that waits.
type ticket struct {
	*Group
	done    func(Receipt, error)
	receipt Receipt
}

// intake is where groups wait for the committer, in order.
type intake struct {
	mu      sync.Mutex
	waiting []*ticket
	bytes   int64
	wake    chan struct{} // of the committer; holds one
	room    chan struct{} // closed when some have left
	closed  chan struct{}
}

// PatienceTime is how long a patient group waits for others.
const PatienceTime = 50 * time.Millisecond

// maxWaiting bounds the groups that wait, in bytes, unless a single one is larger.
const maxWaiting = 8 << 20

func newIntake() intake {
	return intake{wake: make(chan struct{}, 1), room: make(chan struct{}), closed: make(chan struct{})}
}

// put adds a group, as soon as there is room for it.
func (q *intake) put(ctx context.Context, t *ticket) error {
	for {
		q.mu.Lock()
		select {
		case <-q.closed:
			q.mu.Unlock()
			return ErrClosed
		default:
		}
		if len(q.waiting) == 0 || q.bytes+t.size() <= maxWaiting {
			q.waiting = append(q.waiting, t)
			q.bytes += t.size()
			q.mu.Unlock()
			if t.Patient {
				time.AfterFunc(PatienceTime, q.nudge)
			} else {
				q.nudge()
			}
			return nil
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (q *intake) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take takes groups that fit into a number of bytes, in order, and at least one if there are any.
func (q *intake) take(limit int64) (taken []*ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, int64(0)
	for n < len(q.waiting) && (n == 0 || bytes+q.waiting[n].size() <= limit) {
		bytes += q.waiting[n].size()
		n++
	}
	if n == 0 {
		return nil
	}
	taken, q.waiting = q.waiting[:n:n], q.waiting[n:]
	q.bytes -= bytes
	close(q.room)
	q.room = make(chan struct{})
	if len(q.waiting) > 0 {
		q.nudge()
	}
	return taken
}

func (q *intake) close() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-q.closed:
		return false
	default:
	}
	close(q.closed)
	close(q.room)
	q.room = make(chan struct{})
	return true
}

// Enqueue hands a group to the journal. It blocks while too much waits, and returns an error, ctx's or ErrClosed or
// ErrTooLarge, only if the group was not taken. Otherwise done is called once, in the order of Enqueue:
//
//   - with nil when the group is on the disk, or only written if it is lazy;
//   - with ErrFull or ErrClosed: nothing of it was kept;
//   - with another error when the disk failed: nothing of it counts in this run. After a crash before the next
//     successful write it may be there, as if it had been accepted.
//
// done is called between two syncs and must not block; an Enqueue in it could wait for itself.
func (j *Journal) Enqueue(ctx context.Context, g *Group, done func(Receipt, error)) error {
	if g.size() > j.maxBatch() {
		return fmt.Errorf("%w: %d bytes, and %d are allowed", ErrTooLarge, g.size(), j.maxBatch())
	}
	return j.intake.put(ctx, &ticket{Group: g, done: done})
}

// Flush returns when what Settle and Checkpoint have said before is on the disk.
func (j *Journal) Flush(ctx context.Context) error {
	for { // one batch may not have room for the floors of all lanes
		if _, err := j.Append(ctx, &Group{Urgent: true, flush: true}); err != nil || !j.crowded() {
			return err
		}
	}
}

// crowded reports whether there are more floors to be written than one batch takes.
func (j *Journal) crowded() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return int64(len(j.index.dirty))*record{}.cost() > j.maxBatch()/4
}

// Append appends a group and waits until its done is called; see Enqueue. When ctx ends first the group may still be
// appended.
func (j *Journal) Append(ctx context.Context, g *Group) (Receipt, error) {
	type result struct {
		Receipt
		error
	}
	results := make(chan result, 1)
	if err := j.Enqueue(ctx, g, func(r Receipt, err error) { results <- result{r, err} }); err != nil {
		return Receipt{}, err
	}
	select {
	case r := <-results:
		return r.Receipt, r.error
	case <-ctx.Done():
		return Receipt{}, ctx.Err()
	}
}
