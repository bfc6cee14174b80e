package journal

import "time"

// Groups with an id that was seen within idWindow are duplicates. At most maxIDs are kept: of more, the oldest are
// forgotten before their time.
const (
	idWindow = 2 * time.Minute
	maxIDs   = 1 << 17
)

// ids remembers which groups were accepted lately.
type ids struct {
	numbers map[string]uint64 // first record of the group
	order   []seenID          // oldest first
}

type seenID struct {
	id   string
	time int64 // Unix milliseconds
}

func (d *ids) add(id string, number uint64, at int64) {
	if _, again := d.numbers[id]; !again {
		d.order = append(d.order, seenID{id, at})
	}
	d.numbers[id] = number
	d.expire(at)
}

// expire forgets what is older than the window.
func (d *ids) expire(now int64) {
	old := 0
	for old < len(d.order) && (now-d.order[old].time > idWindow.Milliseconds() || len(d.order)-old > maxIDs) {
		delete(d.numbers, d.order[old].id)
		old++
	}
	d.order = d.order[old:]
}
