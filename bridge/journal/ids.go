package journal

import (
	"strings"
	"time"
)

// Groups with an id that was seen within idWindow are duplicates. At most maxIDs are kept, fewer if they are long: of more,
// the owner who has the most forgets the oldest of his before their time. An id's owner is what stands before its first
// blank.
const (
	idWindow   = 2 * time.Minute
	maxIDs     = 1 << 17
	maxIDBytes = 32 << 20 // each counts idCost beside itself
	idCost     = 128
)

// ids remembers which groups were accepted lately.
type ids struct {
	numbers map[string]uint64   // first record of the group
	bytes   int                 // that they count
	of      map[string][]seenID // by owner, the oldest first
	swept   int64               // when all that is old was forgotten, Unix milliseconds
}

type seenID struct {
	id   string
	time int64 // Unix milliseconds
}

func newIDs() ids { return ids{numbers: map[string]uint64{}, of: map[string][]seenID{}} }

func owner(id string) string {
	name, _, _ := strings.Cut(id, " ")
	return name
}

func (d *ids) add(id string, number uint64, at int64) {
	if _, again := d.numbers[id]; !again {
		d.of[owner(id)] = append(d.of[owner(id)], seenID{id, at})
		d.bytes += len(id) + idCost
	}
	d.numbers[id] = number
	if !d.full() {
		return
	}
	d.sweep(at)
	for d.full() {
		most := ""
		for name, seen := range d.of {
			if len(seen) > len(d.of[most]) {
				most = name
			}
		}
		d.forget(most, max(len(d.of[most])/8, 1))
	}
}

func (d *ids) full() bool { return len(d.numbers) > maxIDs || d.bytes > maxIDBytes }

// number returns the first record of the group with an id that was seen within the window.
func (d *ids) number(id string, now int64) (number uint64, seen bool) {
	if now-d.swept > idWindow.Milliseconds()/8 {
		d.sweep(now)
	}
	d.expire(owner(id), now)
	number, seen = d.numbers[id]
	return number, seen
}

// sweep forgets what is older than the window.
func (d *ids) sweep(now int64) {
	d.swept = now
	for name := range d.of {
		d.expire(name, now)
	}
}

func (d *ids) expire(name string, now int64) {
	seen, old := d.of[name], 0
	for old < len(seen) && now-seen[old].time > idWindow.Milliseconds() {
		old++
	}
	if old > 0 {
		d.forget(name, old)
	}
}

// forget forgets the n oldest of an owner.
func (d *ids) forget(name string, n int) {
	for _, s := range d.of[name][:n] {
		delete(d.numbers, s.id)
		d.bytes -= len(s.id) + idCost
	}
	if d.of[name] = d.of[name][n:]; len(d.of[name]) == 0 {
		delete(d.of, name)
	}
}
