//go:build unix

package journal_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fleetbridge/bridge/journal"
)

// counted is a file system that counts.
type counted struct {
	journal.FS
	syncs, bytes *atomic.Int64
}

type countedFile struct {
	journal.File
	counted
}

func (c counted) Create(name string, size int64) (journal.File, error) {
	f, err := c.FS.Create(name, size)
	return countedFile{f, c}, err
}

func (c counted) SyncDir(dir string) error {
	c.syncs.Add(1)
	return c.FS.SyncDir(dir)
}

func (f countedFile) Sync() error {
	f.syncs.Add(1)
	return f.File.Sync()
}

func (f countedFile) WriteAt(b []byte, at int64) (int, error) {
	f.bytes.Add(int64(len(b)))
	return f.File.WriteAt(b, at)
}

func count() counted { return counted{journal.OS(), new(atomic.Int64), new(atomic.Int64)} }

// report prints syncs, bytes and CPU for each message.
func (c counted) report(b *testing.B, before time.Duration) {
	b.ReportMetric(float64(c.syncs.Load())/float64(b.N), "syncs/op")
	b.ReportMetric(float64(c.bytes.Load())/float64(b.N), "B-written/op")
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// BenchmarkAppend has so many callers wait for a message of 300 bytes at once, and settles what was accepted.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 64, 1000} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			c := count()
			j, err := journal.Open(context.Background(), b.TempDir(), journal.Options{FS: c})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			before, left := cpu(), atomic.Int64{}
			left.Store(int64(b.N))
			body := make([]byte, 300)
			b.ResetTimer()
			var wait sync.WaitGroup
			for n := range callers {
				wait.Go(func() {
					lane := fmt.Sprintf("thing-%d/events", n)
					for left.Add(-1) >= 0 {
						var g journal.Group
						g.Message(lane, body)
						r, err := j.Append(context.Background(), &g)
						if err != nil {
							b.Error(err)
							return
						}
						j.Settle(lane, r.First)
					}
				})
			}
			wait.Wait()
			b.StopTimer()
			c.report(b, before)
		})
	}
}

// BenchmarkBare is what the same groups cost without a journal: one write of their bytes, one sync.
func BenchmarkBare(b *testing.B) {
	for _, group := range []int{1, 64, 1000} {
		b.Run(fmt.Sprint(group), func(b *testing.B) {
			c := count()
			f, err := c.Create(filepath.Join(b.TempDir(), "bare"), 16<<20)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			before, bytes := cpu(), make([]byte, 300*group)
			b.ResetTimer()
			for n := 0; n < b.N; n += group {
				if _, err := f.WriteAt(bytes, int64(n)*300%(15<<20)); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			c.report(b, before)
		})
	}
}

// BenchmarkOpen opens a million queued messages of 300 bytes, and says what they take in memory.
func BenchmarkOpen(b *testing.B) {
	const messages = 1_000_000
	dir := b.TempDir()
	j, err := journal.Open(context.Background(), dir, journal.Options{})
	if err != nil {
		b.Fatal(err)
	}
	var wait sync.WaitGroup
	body := make([]byte, 300)
	for n := range messages {
		g := new(journal.Group)
		g.Lazy = true
		g.Message(fmt.Sprintf("thing-%d/events", n%1000), body)
		wait.Add(1)
		if err := j.Enqueue(context.Background(), g, func(_ journal.Receipt, err error) {
			if err != nil {
				b.Error(err)
			}
			wait.Done()
		}); err != nil {
			b.Fatal(err)
		}
	}
	wait.Wait()
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	j = nil
	for b.Loop() {
		before := heap()
		if j, err = journal.Open(context.Background(), dir, journal.Options{}); err != nil {
			b.Fatal(err)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "MiB-uncollected")
		b.ReportMetric(float64(heap()-before)/(1<<20), "MiB")
		if n := j.Size().Messages; n != messages {
			b.Fatalf("%d messages", n)
		}
		_ = j.Close()
		j = nil
	}
}

// heap returns what is live on the heap.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// cpu returns what the process has used so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
