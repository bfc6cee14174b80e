package main

import (
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// world is a disk with a directory d, which is durable.
func world(t *testing.T, r rules) (*disk, *dir) {
	t.Helper()
	r.size = 1 << 20
	d := newDisk(r)
	made := &dir{ino: d.next(), live: map[string]node{}, durable: map[string]node{}}
	d.change(change{dir: d.root, name: "d", node: made})
	d.locked(func() { d.sync(d.root) })
	return d, made
}

func (d *disk) locked(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// put makes a file under a name.
func (d *disk) put(at *dir, name, content string) *file {
	f := &file{ino: d.next()}
	d.change(change{dir: at, name: name, node: f})
	d.write(f, write{data: []byte(content)})
	return f
}

// show prints a directory: names with contents.
func show(at *dir) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(at.live)) {
		out = append(out, name+"="+string(at.live[name].(*file).live))
	}
	return strings.Join(out, " ")
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries entries
		do      func(*disk, *dir)
		want    string
	}{
		{"not synced", journaled, func(d *disk, at *dir) { d.put(at, "a", "x") }, ""},
		{"synced", journaled, func(d *disk, at *dir) { d.sync(d.put(at, "a", "x")) }, "a=x"},
		{"written after the sync", journaled, func(d *disk, at *dir) {
			f := d.put(at, "a", "x")
			d.sync(f)
			d.write(f, write{at: 1, data: []byte("y")})
		}, "a=x"},
		{"a sync brings older entries along, not their contents", journaled, func(d *disk, at *dir) {
			d.put(at, "a", "x")
			d.sync(d.put(at, "b", "y"))
		}, "a= b=y"},
		{"its own entry only", own, func(d *disk, at *dir) {
			d.put(at, "a", "x")
			d.sync(d.put(at, "b", "y"))
		}, "b=y"},
		{"no entry", strict, func(d *disk, at *dir) { d.sync(d.put(at, "a", "x")) }, ""},
		{"directory synced", strict, func(d *disk, at *dir) { d.sync(d.put(at, "a", "x")); d.sync(at) }, "a=x"},
		{"removal undone", own, func(d *disk, at *dir) {
			d.sync(d.put(at, "a", "x"))
			d.change(change{dir: at, name: "a"})
		}, "a=x"},
		{"removed and made anew", own, func(d *disk, at *dir) {
			d.sync(d.put(at, "a", "x"))
			d.change(change{dir: at, name: "a"})
			d.sync(d.put(at, "a", "y"))
			d.sync(at)
		}, "a=y"},
		{"renamed, not synced", journaled, func(d *disk, at *dir) {
			f := d.put(at, "a", "x")
			d.sync(f)
			d.change(change{dir: at, name: "b", node: f, old: "a"})
		}, "a=x"},
		{"renamed over another without a sync of its content", journaled, func(d *disk, at *dir) {
			d.sync(d.put(at, "a", "x"))
			d.change(change{dir: at, name: "a", node: d.put(at, "tmp", "y"), old: "tmp"})
			d.sync(at)
		}, "a="},
		{"truncated", journaled, func(d *disk, at *dir) {
			f := d.put(at, "a", "xyz")
			d.sync(f)
			d.write(f, write{at: 1, truncate: true})
		}, "a=xyz"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, at := world(t, rules{entries: c.entries})
			d.locked(func() { c.do(d, at) })
			d.freeze()
			d.cut(0, 1)
			if got := show(at); got != c.want {
				t.Errorf("left is %q, want %q", got, c.want)
			}
		})
	}
}

func TestCutKeepsAPart(t *testing.T) {
	left := map[string]bool{}
	for seed := range uint64(50) {
		d, at := world(t, rules{entries: journaled})
		d.locked(func() {
			f := d.put(at, "a", "x")
			d.sync(f)
			d.write(f, write{at: 1, data: []byte("y")})
			d.write(f, write{at: 2, data: []byte("z")})
		})
		d.freeze()
		d.cut(0.5, seed)
		left[show(at)] = true
	}
	for _, want := range []string{"a=x", "a=xy", "a=xyz", "a=x\x00z"} {
		if !left[want] {
			t.Errorf("%q was never left: %v", want, left)
		}
	}
}

func TestRefusal(t *testing.T) {
	d, _ := world(t, rules{})
	d.refuse(syscall.EROFS)
	if errno := d.enterToChange(); errno != syscall.EROFS {
		t.Errorf("%v", errno)
	}
	if errno := d.enter(); errno != 0 {
		t.Errorf("%v", errno)
	}
	d.mu.Unlock()
	var f file
	if errno := d.write(&f, write{data: make([]byte, 1<<20+1)}); errno != syscall.ENOSPC {
		t.Errorf("%v", errno)
	}
}

// TestAfterTheCut: a sync that had begun, and whatever its program tries afterwards, fails until the disk is started.
func TestAfterTheCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, at := world(t, rules{entries: strict, delay: time.Millisecond})
		f := d.put(at, "a", "x")
		synced := make(chan syscall.Errno)
		go func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			synced <- d.sync(f)
		}()
		synctest.Wait()
		d.freeze()
		d.cut(0, 1)
		if errno := <-synced; errno != syscall.EIO {
			t.Errorf("a sync that had begun returns %v", errno)
		}
		if errno := d.enter(); errno != syscall.EIO {
			t.Fatalf("after the cut: %v", errno)
		}
		d.start()
		if errno := d.enter(); errno != 0 {
			t.Fatalf("after the start: %v", errno)
		}
		d.mu.Unlock()
	})
}
