//go:build unix

package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fleetbridge/bridge/journal"
	"fleetbridge/bridge/journal/simdisk"
)

// TestSlowDisk has a thousand callers append at once: all are answered within three syncs.
func TestSlowDisk(t *testing.T) {
	for _, delay := range []time.Duration{20 * time.Millisecond, 200 * time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := simdisk.New(1, 64<<20)
				disk.Delay = func(op simdisk.Op) time.Duration {
					if op == simdisk.Sync {
						return delay
					}
					return 0
				}
				j := open(t, disk.Mount(), func(o *journal.Options) { o.SegmentSize = 4 << 20 })
				message(t, j, "warm", "up")
				time.Sleep(time.Minute) // spare files are made
				synctest.Wait()
				syncs, began := disk.Count(simdisk.Sync), time.Now()
				var wait sync.WaitGroup
				for n := range 1000 {
					wait.Go(func() { message(t, j, fmt.Sprintf("lane-%d", n), strings.Repeat("x", 300)) })
				}
				wait.Wait()
				if took, syncs := time.Since(began), disk.Count(simdisk.Sync)-syncs; took > 3*delay || syncs > 3 {
					t.Errorf("%v, %d syncs of %v", took, syncs, delay)
				}
				_ = j.Close()
			})
		})
	}
}

// TestWrittenPerMessage: settling costs no write of its own, and what is written stays what it is however long it goes on.
func TestWrittenPerMessage(t *testing.T) {
	c := counted{newDisk(t).Mount(), new(atomic.Int64), new(atomic.Int64)}
	j := open(t, c)
	var before, syncs int64
	for n := range 300 {
		number := message(t, j, "lane", strings.Repeat("x", 300))
		j.Settle("lane", number)
		if n == 100 {
			before, syncs = c.bytes.Load(), c.syncs.Load()
		}
	}
	if each := (c.bytes.Load() - before) / 199; each > 600 {
		t.Errorf("%d bytes for each of 300", each)
	}
	if more := c.syncs.Load() - syncs - 199; more > 20 {
		t.Errorf("%d syncs too many", more)
	}
}

// TestLazy: a lazy group is answered before the sync, and synced once within the interval; after that nothing wakes.
func TestLazy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		j := open(t, disk.Mount(), func(o *journal.Options) { o.Interval = time.Second })
		message(t, j, "a", "first")
		time.Sleep(time.Minute)
		synctest.Wait()
		syncs := disk.Count(simdisk.Sync)
		for range 10 {
			add(t, j, func(g *journal.Group) { g.Lazy = true; g.Message("a", []byte("x")) })
		}
		if n := disk.Count(simdisk.Sync) - syncs; n != 0 {
			t.Errorf("%d syncs before the answer", n)
		}
		time.Sleep(1001 * time.Millisecond)
		synctest.Wait()
		if n := disk.Count(simdisk.Sync) - syncs; n != 1 {
			t.Errorf("%d syncs within the interval", n)
		}
		time.Sleep(time.Hour)
		if n := disk.Count(simdisk.Sync) - syncs; n != 1 {
			t.Errorf("%d syncs of an idle journal", n)
		}
		_ = j.Close()
	})
}

// TestFull fills a disk at full speed, with nobody settling. Then it is drained without a hand, and takes groups again.
func TestFull(t *testing.T) {
	for _, size := range []int{300, 8 << 10, 30 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			disk := newDisk(t)
			j := open(t, disk.Mount())
			var accepted []uint64
			for {
				var g journal.Group
				g.Message("a", make([]byte, size))
				r, err := j.Append(t.Context(), &g)
				if errors.Is(err, journal.ErrFull) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				accepted = append(accepted, r.First)
			}
			if free, total := disk.Free(); free > total/4 {
				t.Errorf("full with %d of %d bytes free", free, total)
			}
			_ = j.Close()
			disk.Cut(0)
			j = open(t, disk.Mount())
			for _, want := range accepted {
				m := j.Read("a", 0, 1)[0]
				if m.Err != nil || m.Number != want {
					t.Fatalf("%d, %v, want %d", m.Number, m.Err, want)
				}
				add(t, j, func(g *journal.Group) {
					g.Urgent = true
					g.Settle("a", m.Number)
					g.Put("merged", make([]byte, 300))
				})
			}
			message(t, j, "a", "room")
			if s := j.Size(); s.Messages != 1 || s.Files > 16*64<<10 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestFailedWrite: the callers get the error, nothing of theirs is there, and the next group goes to a new segment.
func TestFailedWrite(t *testing.T) {
	for _, op := range []simdisk.Op{simdisk.Write, simdisk.Sync} {
		t.Run(string(op), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := newDisk(t)
				j := open(t, disk.Mount())
				message(t, j, "a", "before")
				disk.Break(func(now simdisk.Op, _ string) error {
					if now == op {
						return syscall.EIO
					}
					return nil
				})
				var g journal.Group
				g.Message("a", []byte("failed"))
				if _, err := j.Append(t.Context(), &g); !errors.Is(err, syscall.EIO) {
					t.Errorf("%v", err)
				}
				disk.Break(nil)
				expect(t, j, "a: 1=before\n")
				message(t, j, "a", "after")
				expect(t, j, "a: 1=before 2=after\n")
				disk.Cut(1)
				_ = j.Close()
				j = open(t, disk.Mount())
				expect(t, j, "a: 1=before 2=after\n")
				_ = j.Close()
			})
		})
	}
}

// TestUnreadable: a body that the disk does not give is said, and read when the disk gives it.
func TestUnreadable(t *testing.T) {
	disk := newDisk(t)
	j := open(t, disk.Mount())
	message(t, j, "a", "x")
	disk.Break(func(op simdisk.Op, _ string) error {
		if op == simdisk.Read {
			return syscall.EIO
		}
		return nil
	})
	var damage *journal.Damage
	if m := j.Read("a", 0, 1)[0]; !errors.As(m.Err, &damage) || !errors.Is(m.Err, syscall.EIO) || damage.Key != "a" || damage.First != 1 {
		t.Errorf("%+v", m)
	}
	disk.Break(nil)
	expect(t, j, "a: 1=x\n")
}

// TestSpaceComesBack: one message that nobody settles keeps no other segment.
func TestSpaceComesBack(t *testing.T) {
	disk := newDisk(t)
	j := open(t, disk.Mount())
	message(t, j, "stuck", "here")
	add(t, j, func(g *journal.Group) { g.Put("k", []byte("v")); g.Put("gone", []byte("v")) })
	add(t, j, func(g *journal.Group) { g.Delete("gone") })
	for range 2000 {
		j.Settle("busy", message(t, j, "busy", strings.Repeat("x", 1000)))
	}
	if s := j.Size(); s.Files > 12*64<<10 {
		t.Errorf("%+v", s)
	}
	_ = j.Close()
	j = open(t, disk.Mount())
	expect(t, j, "stuck: 1=here\nk=v\n")
}

func TestOtherVersion(t *testing.T) {
	disk := newDisk(t)
	_, err := journal.Open(context.Background(), "journal", journal.Options{FS: journal.OtherVersion(disk.Mount()), SegmentSize: 64 << 10})
	if !errors.Is(err, journal.ErrVersion) || !strings.Contains(err.Error(), "format 2") {
		t.Error(err)
	}
}

func TestDump(t *testing.T) {
	dir := t.TempDir()
	j, err := journal.Open(context.Background(), dir, journal.Options{SegmentSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	add(t, j, func(g *journal.Group) { g.ID = "id-1"; g.Message("a", []byte("x")); g.Put("k", []byte("value")) })
	var b bytes.Buffer
	if err := journal.Dump(&b, dir); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 message \"a\", 1 bytes", "2 state \"k\", 5 bytes", "3 id \"id-1\" of 1", "spare"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	var g journal.Group
	g.Message("a", []byte("y"))
	if _, err := j.Append(context.Background(), &g); err != nil {
		t.Error(err)
	}
}

// liar is a disk that does what it is asked to, and says that it failed.
type liar struct {
	journal.FS
	lies *atomic.Bool
}

type liarFile struct {
	journal.File
	liar
}

func (l liar) Create(name string, size int64) (journal.File, error) {
	f, err := l.FS.Create(name, size)
	return liarFile{f, l}, err
}

func (l liar) Remove(name string) error {
	if l.lies.Load() {
		return syscall.EIO
	}
	return l.FS.Remove(name)
}

func (f liarFile) Sync() error {
	err := f.File.Sync()
	if f.lies.Load() {
		return syscall.EIO
	}
	return err
}

// TestFailedBegin: when a new segment fails, its header may be there all the same. What is accepted afterwards must not
// go where that header says that nothing counts.
func TestFailedBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		l := liar{disk.Mount(), new(atomic.Bool)}
		j := open(t, l)
		for range 2 {
			message(t, j, "a", strings.Repeat("x", 25<<10))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		l.lies.Store(true)
		var g journal.Group
		g.Message("a", make([]byte, 25<<10))
		if _, err := j.Append(t.Context(), &g); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		l.lies.Store(false)
		message(t, j, "b", "small")
		disk.Cut(0)
		_ = j.Close()
		j = open(t, disk.Mount())
		if m := j.Read("b", 0, 1); len(m) != 1 || string(m[0].Body) != "small" {
			t.Errorf("%v", m)
		}
		_ = j.Close()
	})
}

// TestMaxBytes: what is live counts, and urgent groups are taken all the same.
func TestMaxBytes(t *testing.T) {
	j := open(t, newDisk(t).Mount(), func(o *journal.Options) { o.MaxBytes = 5000 })
	var last uint64
	for {
		var g journal.Group
		g.Message("a", make([]byte, 1000))
		r, err := j.Append(t.Context(), &g)
		if errors.Is(err, journal.ErrFull) {
			break
		}
		last = r.First
	}
	if n := j.Size().Messages; n != 4 {
		t.Errorf("%d messages", n)
	}
	add(t, j, func(g *journal.Group) { g.Urgent = true; g.Put("k", []byte("v")) })
	j.Settle("a", last)
	message(t, j, "a", "again")
}
