package main

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

// disk is a file system that knows two states of everything: what programs see, and what would be there
// after a power cut.
type disk struct {
	rules rules

	mu       sync.Mutex
	root     *dir
	journal  []change // of directories, not durable yet, oldest first
	frozen   bool
	released chan struct{} // closed when what waits on the frozen disk may fail
	refusal  syscall.Errno // what every change gets; 0: none
	free     int64
	ino      uint64
	stats    stats
}

// rules say what a sync makes durable, and what it costs.
type rules struct {
	entries entries
	delay   time.Duration // of each sync; what is not durable yet stays so for that time
	size    int64         // of the disk in bytes
}

// entries says which changes of directories a sync makes durable.
type entries string

const (
	// all earlier ones of any directory, as the journals of ext4 and XFS do.
	journaled entries = "journal"
	// those of the synced file itself and of the directories above it, as every file system in use does
	// at least; what else was made, renamed or removed may be undone.
	own entries = "own"
	// none but those of a directory that is itself synced. That is all that POSIX says.
	strict entries = "strict"
)

// change is one change of a directory.
type change struct {
	dir  *dir
	name string
	node node   // nil: the name is removed
	old  string // the node's name before, in the same directory; empty: none
}

// apply makes the change in the entries as programs see them, or in the durable ones.
func (c change) apply(entries map[string]node) {
	if c.old != "" {
		delete(entries, c.old)
	}
	if c.node == nil {
		delete(entries, c.name)
	} else {
		entries[c.name] = c.node
	}
}

type node interface{ number() uint64 }

type dir struct {
	ino           uint64
	parent        *dir // nil: the root
	live, durable map[string]node
}

type file struct {
	ino     uint64
	parent  *dir
	live    []byte
	durable []byte
	pending []write // since the last sync, oldest first
}

// write is one change of a file's content.
type write struct {
	at       int64
	data     []byte
	truncate bool // to the length at
}

func (d *dir) number() uint64  { return d.ino }
func (f *file) number() uint64 { return f.ino }

type stats struct{ syncs, writes, droppedWrites, droppedBytes, droppedEntries int }

func newDisk(r rules) *disk {
	d := &disk{rules: r, released: make(chan struct{}), free: r.size, ino: 1}
	d.root = &dir{ino: 1, live: map[string]node{}, durable: map[string]node{}}
	return d
}

// enter waits for the disk. On a frozen one it returns an error when the disk is released, without the
// lock; otherwise the caller has the lock.
func (d *disk) enter() syscall.Errno {
	d.mu.Lock()
	if !d.frozen {
		return 0
	}
	released := d.released
	d.mu.Unlock()
	<-released
	return syscall.EIO
}

// enterToChange is enter for what changes something.
func (d *disk) enterToChange() syscall.Errno {
	if errno := d.enter(); errno != 0 {
		return errno
	}
	errno := d.refusal
	if errno != 0 {
		d.mu.Unlock()
	}
	return errno
}

// refuse gives every change an error from now on; 0 ends that.
func (d *disk) refuse(errno syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refusal = errno
}

func (d *disk) next() uint64 { d.ino++; return d.ino }

// change makes a change visible; it is durable after a sync.
func (d *disk) change(c change) {
	switch n := c.node.(type) {
	case *dir:
		n.parent = c.dir
	case *file:
		n.parent = c.dir
	}
	c.apply(c.dir.live)
	d.journal = append(d.journal, c)
}

// write changes a file's content; it is durable after a sync.
func (d *disk) write(f *file, w write) syscall.Errno {
	end := w.at + int64(len(w.data))
	if grown := end - int64(len(f.live)); grown > 0 || w.truncate {
		if d.free-grown < 0 && grown > 0 {
			return syscall.ENOSPC
		}
		d.free -= grown
	}
	f.live = w.apply(f.live)
	f.pending = append(f.pending, w)
	d.stats.writes++
	return 0
}

func (w write) apply(content []byte) []byte {
	if end := w.at + int64(len(w.data)); end > int64(len(content)) {
		content = append(content, make([]byte, end-int64(len(content)))...)
	}
	if w.truncate {
		return content[:w.at]
	}
	copy(content[w.at:], w.data)
	return content
}

// sync makes durable what was changed before it: the file's content, or the directory's entries, and by
// the journal's rule everything in any directory. The lock must be held; it is given back meanwhile.
func (d *disk) sync(n node) syscall.Errno {
	writes, changes := 0, len(d.journal)
	f, isFile := n.(*file)
	if isFile {
		writes = len(f.pending)
	}
	if d.rules.delay > 0 {
		d.mu.Unlock()
		time.Sleep(d.rules.delay)
		if errno := d.enter(); errno != 0 {
			d.mu.Lock()
			return errno
		}
	}
	d.stats.syncs++
	if isFile {
		writes = min(writes, len(f.pending)) // another sync may have been faster
		for _, w := range f.pending[:writes] {
			f.durable = w.apply(f.durable)
		}
		f.pending = slices.Delete(f.pending, 0, writes)
	}
	if changes > 0 {
		d.commit(d.durable(n), changes)
	}
	return 0
}

// durable tells which changes of directories a sync of the node makes durable.
func (d *disk) durable(n node) func(change) bool {
	at, isDir := n.(*dir)
	above := map[node]bool{n: true}
	if f, ok := n.(*file); ok {
		at = f.parent
	}
	for ; at != nil; at = at.parent {
		above[at] = true
	}
	return func(c change) bool {
		switch {
		case d.rules.entries == journaled:
			return true
		case isDir && c.dir == n:
			return true
		case d.rules.entries == own:
			return c.node != nil && above[c.node]
		}
		return false
	}
}

// commit makes those of the first n changes durable that match.
func (d *disk) commit(match func(change) bool, n int) {
	n = min(n, len(d.journal))
	left := d.journal[:0:0]
	for i, c := range d.journal {
		if i < n && match(c) {
			c.apply(c.dir.durable)
			left = supersede(left, c)
		} else {
			left = append(left, c)
		}
	}
	d.journal = left
}

// supersede takes out of older changes, which are not durable, what they would do to the name that the
// newer one has set.
func supersede(older []change, newer change) []change {
	left := older[:0:0]
	for _, c := range older {
		if c.dir == newer.dir {
			if c.old == newer.name {
				c.old = ""
			}
			if c.name == newer.name {
				if c.old == "" {
					continue
				}
				c = change{dir: c.dir, name: c.old}
			}
		}
		left = append(left, c)
	}
	return left
}

// freeze is the moment of the cut: nothing changes any more, everybody waits.
func (d *disk) freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frozen = true
}

// cut drops what no sync has made durable. Of that, keep (0 to 1) survives by chance, as caches write
// back what they like: single writes, whole or the first sectors of them, and the journal up to some
// point. Whoever had the disk before the cut gets errors from now on, until it is started.
func (d *disk) cut(keep float64, seed uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	random := rand.New(rand.NewPCG(seed, 1))
	kept := 0
	for kept < len(d.journal) && random.Float64() < keep {
		kept++
	}
	d.commit(func(change) bool { return true }, kept)
	d.stats.droppedEntries += len(d.journal)
	d.journal = nil
	d.free = d.rules.size
	d.settle(d.root, keep, random)
	close(d.released)
	d.frozen = true
}

// start has the disk go on after a cut, for who comes then.
func (d *disk) start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.released, d.frozen = make(chan struct{}), false
}

const sector = 512

// settle makes live of what is durable, all the way down.
func (d *disk) settle(at *dir, keep float64, random *rand.Rand) {
	at.live = maps.Clone(at.durable)
	for _, name := range slices.Sorted(maps.Keys(at.live)) {
		switch n := at.live[name].(type) {
		case *dir:
			d.settle(n, keep, random)
		case *file:
			for _, w := range n.pending {
				if random.Float64() >= keep {
					d.stats.droppedWrites++
					d.stats.droppedBytes += len(w.data)
					continue
				}
				if sectors := len(w.data) / sector; sectors > 0 && random.IntN(4) == 0 {
					w.data = w.data[:random.IntN(sectors+1)*sector]
				}
				n.durable = w.apply(n.durable)
			}
			n.pending = nil
			n.live = slices.Clone(n.durable)
			d.free -= int64(len(n.live))
		}
	}
}
