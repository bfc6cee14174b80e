package journal

import (
	"strings"
	"time"
)

// Groups with an id that was seen within idWindow are duplicates. At most maxIDs are kept, fewer if they are long. When there
// are more, the oldest ids of the owner with the most are forgotten early. An id's owner is the text before its first blank.
const (
	idWindow   = 2 * time.Minute
	maxIDs     = 1 << 17
	maxIDBytes = 32 << 20 // each counts idCost beside itself
	idCost     = 128
)

// ids remembers which groups were accepted lately.
type ids struct {
	most    int               // maxIDs, in tests fewer
	room    int               // maxIDBytes, in tests fewer
	numbers map[string]uint64 // first record of the group
	of      map[string]*own
	bytes   int   // that all count
	swept   int64 // when all that is old was forgotten, Unix milliseconds
}

// own is what one owner has.
type own struct {
	seen  []seenID // the oldest first
	bytes int      // that they count
}

type seenID struct {
	id   string
	time int64 // Unix milliseconds
}

func newIDs() ids {
	return ids{most: maxIDs, room: maxIDBytes, numbers: map[string]uint64{}, of: map[string]*own{}}
}

func owner(id string) string {
	name, _, _ := strings.Cut(id, " ")
	return name
}

func (d *ids) add(id string, number uint64, at int64) {
	if _, again := d.numbers[id]; !again {
		o := d.of[owner(id)]
		if o == nil {
			o = &own{}
			d.of[owner(id)] = o
		}
		o.seen = append(o.seen, seenID{id, at})
		d.weigh(o, len(id)+idCost)
	}
	d.numbers[id] = number
	if !d.full() {
		return
	}
	d.sweep(at)
	for d.full() {
		most, bytes := "", 0
		for name, o := range d.of {
			if o.bytes > bytes {
				most, bytes = name, o.bytes
			}
		}
		d.forget(most, max(len(d.of[most].seen)/8, 1))
	}
}

func (d *ids) weigh(o *own, bytes int) {
	o.bytes += bytes
	d.bytes += bytes
}

func (d *ids) full() bool { return len(d.numbers) > d.most || d.bytes > d.room }

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
	o, old := d.of[name], 0
	if o == nil {
		return
	}
	for old < len(o.seen) && now-o.seen[old].time > idWindow.Milliseconds() {
		old++
	}
	if old > 0 {
		d.forget(name, old)
	}
}

// forget forgets the n oldest of an owner.
func (d *ids) forget(name string, n int) {
	o := d.of[name]
	for _, s := range o.seen[:n] {
		delete(d.numbers, s.id)
		d.weigh(o, -len(s.id)-idCost)
	}
	if o.seen = o.seen[n:]; len(o.seen) == 0 {
		delete(d.of, name)
	}
}
