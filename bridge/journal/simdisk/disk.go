// Package simdisk is a disk in memory for tests of programs that keep a journal: it tears writes, forgets what was not
// synced, directory entries included, flips bits, is full, fails, and takes its time. Everything that it does by chance
// comes from one seed, and its time is the caller's: in a testing/synctest bubble a history is the same each time.
package simdisk

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"fleetbridge/bridge/journal"
)

// Op is what a program asks of the disk.
type Op string

const (
	Create  Op = "create"
	Open    Op = "open"
	Rename  Op = "rename"
	Remove  Op = "remove"
	SyncDir Op = "sync directory"
	Read    Op = "read"
	Write   Op = "write"
	Sync    Op = "sync"
)

// Disk is a disk with one directory. It knows what programs see, and what a power cut would leave.
type Disk struct {
	// Delay, if set, says how long an operation takes. Reads should take no time: who waits for a lock that a reader holds
	// keeps the time of a bubble from going on.
	Delay func(Op) time.Duration

	mu      sync.Mutex
	random  *rand.Rand
	fault   func(Op, string) error
	size    int64
	life    int // programs of earlier lives get errors
	live    map[string]*inode
	durable map[string]*inode
	changes []change // of the directory since its last sync
	locked  bool
	count   map[Op]int
}

// inode is the content of a file.
type inode struct {
	live, durable []byte
	pending       []write // since the last sync
}

type write struct {
	at   int64
	data []byte
}

// change is one of the directory: name gets the inode, or none, and old loses it.
type change struct {
	name, old string
	node      *inode
}

// New returns an empty disk of so many bytes.
func New(seed uint64, size int64) *Disk {
	return &Disk{random: rand.New(rand.NewPCG(seed, 0)), size: size, live: map[string]*inode{}, durable: map[string]*inode{}, count: map[Op]int{}}
}

// mount is a journal.FS for one life.
type mount struct {
	d    *Disk
	life int
}

// Mount returns the disk for a program that lives until the next Kill or Cut.
func (d *Disk) Mount() journal.FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return mount{d, d.life}
}

// Free returns how many bytes are free, and how many there are.
func (d *Disk) Free() (free, total int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free(), d.size
}

// Count returns how often an operation was done.
func (d *Disk) Count(op Op) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count[op]
}

// enter begins an operation: it takes its time, and may fail. The lock is held when it returns.
func (d *Disk) enter(op Op, name string, life int) error {
	if d.Delay != nil {
		time.Sleep(d.Delay(op))
	}
	d.mu.Lock()
	d.count[op]++
	if life != d.life {
		return syscall.EIO
	}
	if d.fault != nil {
		return d.fault(op, filepath.Base(name))
	}
	return nil
}

func (m mount) do(op Op, name string, f func(name string) error) error {
	err := m.d.enter(op, name, m.life)
	defer m.d.mu.Unlock()
	if err == nil {
		err = f(filepath.Base(name))
	}
	if err != nil {
		return &fs.PathError{Op: string(op), Path: name, Err: err}
	}
	return nil
}

func (d *Disk) change(c change) {
	c.apply(d.live)
	d.changes = append(d.changes, c)
}

func (c change) apply(names map[string]*inode) {
	delete(names, c.old)
	if c.node == nil {
		delete(names, c.name)
	} else {
		names[c.name] = c.node
	}
}

func (d *Disk) free() int64 {
	free := d.size
	for _, n := range d.live {
		free -= int64(len(n.live))
	}
	return free
}

// MakeDir does nothing: there is one directory, and it is durable.
func (m mount) MakeDir(string) error { return nil }

// List returns the names of the files.
func (m mount) List(string) ([]string, error) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	return slices.Sorted(maps.Keys(m.d.live)), nil
}

// Create makes a file of zeros.
func (m mount) Create(name string, size int64) (f journal.File, err error) {
	err = m.do(Create, name, func(base string) error {
		switch {
		case m.d.live[base] != nil:
			return syscall.EEXIST
		case m.d.free() < size:
			return syscall.ENOSPC
		}
		node := &inode{live: make([]byte, size)} // its length is lost, too, if it is not synced
		node.pending = []write{{0, make([]byte, size)}}
		m.d.change(change{name: base, node: node})
		f = &file{m.d, node, name, m.life}
		return nil
	})
	return f, err
}

// Open opens a file.
func (m mount) Open(name string) (f journal.File, err error) {
	err = m.do(Open, name, func(base string) error {
		node := m.d.live[base]
		if node == nil {
			return syscall.ENOENT
		}
		f = &file{m.d, node, name, m.life}
		return nil
	})
	return f, err
}

// Rename renames a file.
func (m mount) Rename(from, to string) error {
	return m.do(Rename, from, func(base string) error {
		if m.d.live[base] == nil {
			return syscall.ENOENT
		}
		m.d.change(change{name: filepath.Base(to), old: base, node: m.d.live[base]})
		return nil
	})
}

// Remove removes a file.
func (m mount) Remove(name string) error {
	return m.do(Remove, name, func(base string) error {
		if m.d.live[base] == nil {
			return syscall.ENOENT
		}
		m.d.change(change{name: base})
		return nil
	})
}

// SyncDir makes the changes of the directory durable.
func (m mount) SyncDir(dir string) error {
	return m.do(SyncDir, dir, func(string) error {
		for _, c := range m.d.changes {
			c.apply(m.d.durable)
		}
		m.d.changes = nil
		return nil
	})
}

// Space returns how much is free.
func (m mount) Space(string) (free, total int64, err error) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	return m.d.free(), m.d.size, nil
}

// Break has operations fail as a function says that gets each and the name of its file; nil mends the disk. A write or a
// sync that fails may have been done in part, and another sync of the same file does nothing about it.
func (d *Disk) Break(fault func(Op, string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = fault
}

// Resize sets the size of the disk, as when others fill it or make room.
func (d *Disk) Resize(size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.size = size
}

type lock struct {
	d    *Disk
	life int
}

func (l lock) Close() error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.life == l.d.life {
		l.d.locked = false
	}
	return nil
}

// Lock locks the disk for one.
func (m mount) Lock(string) (io.Closer, error) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	switch {
	case m.life != m.d.life:
		return nil, syscall.EIO
	case m.d.locked:
		return nil, journal.ErrLocked
	}
	m.d.locked = true
	return lock(m), nil
}

// file is an open file.
type file struct {
	d    *Disk
	node *inode
	name string
	life int
}

// begin begins an operation with the file; the caller unlocks.
func (f *file) begin(op Op) error {
	if err := f.d.enter(op, f.name, f.life); err != nil {
		return &fs.PathError{Op: string(op), Path: f.name, Err: err}
	}
	return nil
}

func (f *file) ReadAt(b []byte, at int64) (int, error) {
	err := f.begin(Read)
	defer f.d.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if at >= int64(len(f.node.live)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.live[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(b []byte, at int64) (int, error) {
	err := f.begin(Write)
	defer f.d.mu.Unlock()
	if f.life != f.d.life {
		return 0, err
	}
	if err == nil {
		if grown := at + int64(len(b)) - int64(len(f.node.live)); grown > 0 && f.d.free() < grown {
			err = syscall.ENOSPC
		}
	}
	if err != nil {
		b = b[:f.d.random.IntN(len(b)+1)]
	}
	w := write{at, slices.Clone(b)}
	f.node.live = w.apply(f.node.live)
	f.node.pending = append(f.node.pending, w)
	return len(b), err
}

func (w write) apply(content []byte) []byte {
	if end := w.at + int64(len(w.data)); end > int64(len(content)) {
		content = append(content, make([]byte, end-int64(len(content)))...)
	}
	copy(content[w.at:], w.data)
	return content
}

func (f *file) Sync() error {
	err := f.begin(Sync)
	defer f.d.mu.Unlock()
	if f.life != f.d.life {
		return err
	}
	if err == nil {
		for _, w := range f.node.pending {
			f.node.durable = w.apply(f.node.durable)
		}
	} else {
		f.node.settle(0.5, f.d.random)
	}
	f.node.pending = nil
	return err
}

func (f *file) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.node.live)), nil
}

func (f *file) Close() error { return nil }

// Kill is the end of every program that uses the disk: what it had open works no more. What it wrote stays.
func (d *Disk) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.life++
	d.locked = false
}

// Cut is a power cut: what was not synced is lost, but for the part keep (0 to 1) of it. Sectors of a write and changes
// of the directory survive one by one.
func (d *Disk) Cut(keep float64) {
	d.Kill()
	d.mu.Lock()
	defer d.mu.Unlock()
	nodes := d.nodes()
	for _, c := range d.changes {
		if d.random.Float64() < keep {
			c.apply(d.durable)
		}
	}
	d.changes = nil
	d.live = maps.Clone(d.durable)
	for _, n := range nodes {
		n.settle(keep, d.random)
		n.live = slices.Clone(n.durable)
	}
}

// nodes returns the files, in an order that is the same each time.
func (d *Disk) nodes() (all []*inode) {
	for _, names := range []map[string]*inode{d.live, d.durable} {
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if !slices.Contains(all, names[name]) {
				all = append(all, names[name])
			}
		}
	}
	return all
}

const sector = 512

// settle makes a part of the pending writes durable and forgets the rest.
func (n *inode) settle(keep float64, random *rand.Rand) {
	for _, w := range n.pending {
		if random.IntN(2) == 0 { // all of it, or nothing
			if random.Float64() < keep {
				n.durable = w.apply(n.durable)
			}
			continue
		}
		for data, at := w.data, w.at; len(data) > 0; {
			size := min(int64(len(data)), sector-at%sector)
			if random.Float64() < keep {
				n.durable = write{at, data[:size]}.apply(n.durable)
			}
			data, at = data[size:], at+size
		}
	}
	n.pending = nil
}

// Flip flips one bit of a file, which must be durable, and returns where. The file is one of those whose names match.
func (d *Disk) Flip(match func(name string) bool) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for _, name := range slices.Sorted(maps.Keys(d.live)) {
		if match(name) && len(d.live[name].live) > 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	name := names[d.random.IntN(len(names))]
	n := d.live[name]
	at, bit := d.random.IntN(len(n.live)), d.random.IntN(8)
	n.live[at] ^= 1 << bit
	if at < len(n.durable) {
		n.durable[at] ^= 1 << bit
	}
	return fmt.Sprintf("%s, byte %d, bit %d", name, at, bit)
}

// Load replaces what is on the disk by files, all of them durable.
func (d *Disk) Load(files map[string][]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live, d.durable, d.changes = map[string]*inode{}, map[string]*inode{}, nil
	for name, content := range files {
		n := &inode{live: slices.Clone(content), durable: slices.Clone(content)}
		d.live[name], d.durable[name] = n, n
	}
}
