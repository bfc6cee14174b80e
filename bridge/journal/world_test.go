package journal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing/synctest"
	"time"

	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/journal/simdisk"
)

// simulation changes what a world is like.
type simulation struct {
	disk func(journal.FS) journal.FS // what the journal gets instead of the disk
}

// world is one journal on a simulated disk, and a model of what it holds.
type world struct {
	simulation
	random  *rand.Rand
	disk    *simdisk.Disk
	size    int64
	j       *journal.Journal
	heard   answers
	model   *model
	told    []string
	flipped bool
	broken  bool // the disk fails now
	failed  bool // the disk, at some time; it may have taken the reserve
	lazy    bool
}

const segmentSize = 64 << 10

func newWorld(seed uint64, s simulation) *world {
	w := &world{simulation: s, random: rand.New(rand.NewPCG(seed, 1)), size: 24 * segmentSize, model: newModel()}
	w.disk = simdisk.New(seed, w.size)
	w.lazy, w.model.heavy = w.chance(3), w.chance(3)
	delays := rand.New(rand.NewPCG(seed, 2)) // only the committer waits
	w.disk.Delay = func(op simdisk.Op) time.Duration {
		switch op {
		case simdisk.Sync, simdisk.SyncDir:
			return time.Duration(1 + delays.Int64N(int64(5*time.Millisecond)))
		case simdisk.Write:
			return time.Duration(1 + delays.Int64N(int64(100*time.Microsecond)))
		}
		return 0
	}
	return w
}

func (w *world) tell(format string, v ...any) {
	w.told = append(w.told, time.Now().Format("05.000000 ")+fmt.Sprintf(format, v...))
}

// chance is one in n.
func (w *world) chance(n int) bool { return w.random.IntN(n) == 0 }

func (w *world) run() {
	w.open()
	steps := 20 + w.random.IntN(60)
	if w.model.heavy {
		steps *= 2
	}
	for range steps {
		w.step()
	}
	w.drain()
}

func (w *world) step() {
	if w.model.wrong != "" {
		fail("%s", w.model.wrong)
	}
	switch n := w.random.IntN(100); {
	case n < 55:
		w.append()
	case n < 65:
		w.settle()
	case n < 68:
		w.checkpoint()
	case n < 78:
		w.nap(time.Duration(w.random.Int64N(int64(20 * time.Millisecond))))
	case n < 83:
		w.rest()
		w.model.judgeRunning(w.j)
	case n < 89:
		w.crash()
	case n < 91:
		w.close()
		w.open()
	case n < 95:
		w.trouble()
	default:
		w.resize()
	}
}

// nap lets time pass. Afterwards the committer waits for the disk, or for work.
func (w *world) nap(d time.Duration) {
	time.Sleep(d + 1)
	w.wait()
}

// wait waits until the committer waits, and hears what it has answered.
func (w *world) wait() {
	synctest.Wait()
	for _, a := range w.heard.take() {
		if a.group.status != waiting { // of an earlier life
			continue
		}
		w.model.answered(a.group, a.receipt, a.err)
		w.tell("group %d: %+v, %v", a.group.id, a.receipt, a.err)
	}
}

type answer struct {
	group   *group
	receipt journal.Receipt
	err     error
}

type answers struct {
	mu  sync.Mutex
	all []answer
}

func (h *answers) add(a answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, a)
}

func (h *answers) take() []answer {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.all
	h.all = nil
	return all
}

// rest waits until every group is answered.
func (w *world) rest() {
	for end := time.Now().Add(time.Minute); w.model.waiting() > 0; w.nap(10 * time.Millisecond) {
		if time.Now().After(end) {
			fail("%d groups are not answered", w.model.waiting())
		}
	}
}

func (w *world) open() {
	o := journal.Options{FS: w.mount(), SegmentSize: segmentSize}
	if w.lazy {
		o.Interval = 50 * time.Millisecond
	}
	var err error
	for try := 0; ; try++ {
		if w.j, err = journal.Open(context.Background(), "journal", o); err == nil {
			break
		}
		w.tell("open: %v", err)
		w.disk.Kill()
		o.FS = w.mount()
		if try == 3 {
			w.mend()
		} else if try > 3 {
			fail("open: %v", err)
		}
	}
	w.wait()
	for _, d := range w.j.Damage() {
		w.tell("open: %v", d.Error())
		if !w.flipped && !d.Unconfirmed {
			fail("damage that nobody did: %v", d.Error())
		}
	}
	w.model.judgeOpened(w.j, w.flipped)
	w.tell("open: %d groups counted before; %+v", w.model.counted, w.j.Size())
}

func (w *world) mount() journal.FS {
	if w.simulation.disk != nil {
		return w.simulation.disk(w.disk.Mount())
	}
	return w.disk.Mount()
}

func (w *world) close() {
	w.rest()
	err := w.j.Close()
	w.tell("close: %v", err)
	if err == nil {
		w.model.closed()
	}
	w.disk.Kill()
	w.model.crash()
	w.flip()
}

func (w *world) crash() {
	w.wait()
	if w.chance(3) {
		w.tell("kill")
		w.disk.Kill()
	} else {
		keep := []float64{0, 0.3, 0.5, 0.9, 1}[w.random.IntN(5)]
		w.tell("power cut, %v is kept", keep)
		w.disk.Cut(keep)
	}
	w.model.crash()
	_ = w.j.Close()
	w.mend()
	w.flip()
	if w.chance(8) { // again at once
		w.disk.Cut(1)
	}
	w.open()
}

// flip flips a bit, in few histories and once. Two could hit both tables of one batch, and nobody would know of the last.
func (w *world) flip() {
	if w.flipped || !w.chance(6) {
		return
	}
	w.disk.Cut(1)
	w.flipped = true
	w.tell("flip: %s", w.disk.Flip(func(name string) bool { return strings.HasSuffix(name, ".seg") }))
}

// trouble begins or ends a time in which the disk fails.
func (w *world) trouble() {
	if w.broken {
		w.tell("the disk works")
		w.mend()
		return
	}
	w.broken = true
	faults := rand.New(rand.NewPCG(w.random.Uint64(), 3))
	part := []float64{0.05, 0.3, 1}[w.random.IntN(3)]
	errno := []syscall.Errno{syscall.EIO, syscall.ENOSPC}[w.random.IntN(2)]
	w.failed = true
	w.tell("the disk fails: %v of all operations, %v", part, errno)
	w.disk.Break(func(op simdisk.Op, name string) error {
		if op == simdisk.Read || op == simdisk.Open || faults.Float64() > part {
			return nil
		}
		return errno
	})
}

func (w *world) mend() {
	w.broken = false
	w.disk.Break(nil)
}

func (w *world) resize() {
	free, size := w.disk.Free()
	w.size = size - free + int64(w.random.IntN(12))*segmentSize
	w.tell("the disk has %d segments", w.size/segmentSize)
	w.disk.Resize(w.size)
}

func (w *world) append() {
	g := w.model.compose(w.random, w.lazy)
	w.tell("append %v", g)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	heard := &w.heard
	err := w.j.Enqueue(ctx, &g.group, func(r journal.Receipt, err error) { heard.add(answer{g, r, err}) })
	if err != nil {
		fail("enqueue: %v", err)
	}
	w.wait()
	if w.chance(3) {
		w.nap(time.Duration(w.random.Int64N(int64(10 * time.Millisecond))))
	}
}

func (w *world) settle() {
	lane, number := w.model.settlement(w.random)
	w.tell("settle %s to %d", lane, number)
	w.j.Settle(lane, number)
	w.model.settle(lane, number)
	w.wait()
}

func (w *world) checkpoint() {
	_, number := w.model.settlement(w.random)
	w.tell("checkpoint %d", number)
	w.j.Checkpoint(number)
	w.model.settle(viewLane, number)
	w.wait()
}

// drain ends a history: the disk works, and has no room but what the journal has. When all is settled, groups
// have to be taken again.
func (w *world) drain() {
	w.rest()
	w.mend()
	w.nap(10 * time.Second)
	w.disk.Resize(w.size)
	w.model.judgeRunning(w.j)
	for lane := range w.model.lanes {
		w.tell("drain %s", lane)
		w.model.settle(lane, 1<<62)
		if lane == viewLane {
			w.j.Checkpoint(1 << 62)
		} else {
			w.j.Settle(lane, 1<<62)
		}
	}
	for try := range 20 {
		var g journal.Group
		g.Message("last", []byte("word"))
		r, err := w.j.Append(context.Background(), &g)
		if err == nil {
			w.j.Settle("last", r.First)
			return
		}
		w.tell("drained, and still: %v", err)
		if w.failed && try == 10 {
			w.disk.Resize(1 << 30)
		}
		if !errors.Is(err, journal.ErrFull) || try == 19 {
			fail("drained, and still: %v; %+v", err, w.j.Size())
		}
	}
}

// end closes what is open, whatever happened.
func (w *world) end() {
	w.mend()
	if w.j != nil {
		_ = w.j.Close()
	}
}
